"""Passes: pure functions from graph to graph, and the pipeline that runs them."""

from weft.compiler.passes.base import History, Pass, Step
from weft.compiler.passes.calls import InlineCalls
from weft.compiler.passes.clean import EliminateCommon, EliminateDead
from weft.compiler.passes.control import SimplifyControl
from weft.compiler.passes.pipeline import DEFAULT, bisect, pipeline_for, run_pipeline
from weft.compiler.passes.simplify import Canonicalize, Decompose, FoldConstants, MoveShapes

__all__ = [
    "DEFAULT", "PASSES", "Canonicalize", "Decompose", "EliminateCommon", "EliminateDead",
    "FoldConstants", "History", "InlineCalls", "MoveShapes", "Pass", "SimplifyControl", "Step",
    "bisect", "pipeline_for", "run_pipeline",
]

PASSES: dict[str, type[Pass]] = {
    p.name: p for p in (InlineCalls, EliminateDead, FoldConstants, EliminateCommon,
                        SimplifyControl, Canonicalize, Decompose, MoveShapes)
}
"""Every pass by name."""
