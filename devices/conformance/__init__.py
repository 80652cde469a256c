"""What every device is held to: its ops against their meanings, transforms, control flow, memory.

``python -m weft conformance --device NAME`` runs it. Each check is a small graph with arguments;
graphs are run together, for a compilation takes longer than a run, and one by one where something
fails. What a device says it has not got is skipped, and listed with the reason.

| module | what is there |
|---|---|
| `samples` | arguments for every op in every element type: special values, 0-d, empty, broadcast |
| `points` | graphs of every op where it can be differentiated |
| `control` | loops and branches |
| `compare` | how near a result has to be |
| `jobs` | a check, the device it is made on, and what came of it |
| `checks` | the checks, by group |
| `contract` | what `Memory` and `Compiled` promise |
| `report` | the table |
"""

from weft.devices.conformance.checks import GROUPS, conformance
from weft.devices.conformance.jobs import Job, Outcome, Subject, run_jobs
from weft.devices.conformance.report import report

__all__ = ["GROUPS", "Job", "Outcome", "Subject", "conformance", "report", "run_jobs"]
