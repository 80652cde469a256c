"""``python -m bench``: measure weft beside its peers, print the table, keep the results."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bench import gpu, machine, peers, plot, report, startup, workloads
from bench.measure import Plan, References, Team, scratch, steady
from bench.results import Row

BUSY = 0.5  # load average above which times are not to be trusted


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", metavar="PATTERNS",
                        help="rows by name: words or globs, comma-separated")
    parser.add_argument("--peers", metavar="A,B", help=f"of {', '.join(peers.BY_NAME)}")
    parser.add_argument("--rounds", type=int, metavar="N", help="alternating rounds (7)")
    parser.add_argument("--quick", action="store_true", help="few short rounds, no first calls")
    parser.add_argument("--gpu", action="store_true", help="the rows for one GPU instead")
    parser.add_argument("--list", action="store_true", help="list the rows and their goals")
    parser.add_argument("--peer-python", action="append", default=[], metavar="NAME=PYTHON",
                        help="interpreter of a peer; the name * means all but weft and numpy")
    return parser.parse_args(arguments)


def pythons(given: Sequence[str]) -> dict[str, str]:
    """The interpreter of each peer, from ``--peer-python``."""
    chosen = dict.fromkeys(peers.BY_NAME, sys.executable)
    for item in sorted(given, key=lambda text: not text.startswith("*")):
        name, separator, python = item.partition("=")
        known = [n for n in peers.BY_NAME if name in (n, "*")]
        if not separator or not known:
            sys.exit(f"--peer-python {item}: expected NAME=PYTHON with one of "
                     f"{', '.join(peers.BY_NAME)}, or *")
        starred = [n for n in known if name != "*" or n not in (peers.SUBJECT, "numpy")]
        chosen.update(dict.fromkeys(starred, python))
    return chosen


def chosen_peers(names: str | None) -> list[peers.PeerSpec]:
    """The peers asked for; all of them by default."""
    wanted = names.split(",") if names else list(peers.BY_NAME)
    unknown = [name for name in wanted if name not in peers.BY_NAME]
    if unknown:
        sys.exit(f"--peers: no {', '.join(unknown)}; there are {', '.join(peers.BY_NAME)}")
    return [peers.BY_NAME[name] for name in wanted]


def all_names() -> list[str]:
    """Every row, in the table's order."""
    return [*workloads.BY_NAME, *startup.row_names()]


def say(text: str) -> None:
    """Progress goes to stderr; the table to stdout."""
    print(text, file=sys.stderr, flush=True)


def measure_row(
    name: str, team: Team, references: References, limits: machine.Limits | None
) -> Row:
    """Measure the row of this name, whichever kind it is."""
    specs = [spec for spec in team.plan.specs if spec.name not in team.left_out]
    if name in workloads.BY_NAME:
        return steady(workloads.BY_NAME[name], team, references, limits)
    return startup.fresh_row(name, specs, team, references)


def run(options: argparse.Namespace, names: Sequence[str]) -> None:
    """Measure, print, write."""
    rounds = options.rounds or (3 if options.quick else 7)
    plan = Plan(chosen_peers(options.peers), pythons(options.peer_python), rounds,
                first_rounds=min(rounds, 3), budget=0.1 if options.quick else 0.25, say=say)
    load = machine.load()
    if load is not None and load > BUSY:
        say(f"this machine is busy (load {load:.1f}): the times will be noisy")
    say("measuring the machine's limits")
    limits = machine.measure(0.05 if options.quick else 0.2)
    rows: list[Row] = []
    with scratch() as folder:
        team = Team(plan, Path(folder) / "caches")
        try:
            team.start()
            references = References(Path(folder), plan.pythons["jax"])
            for number, name in enumerate(names, 1):
                say(f"[{number}/{len(names)}] {name}")
                if name not in workloads.BY_NAME:
                    team.close()  # idle workers would only hold memory
                rows.append(measure_row(name, team, references, limits))
        except KeyboardInterrupt:
            say("stopped: here is what was measured so far")
            options.only = options.only or "*"  # not everything: keep the full run's files
        finally:
            team.close()
    show(options, rows, limits, team, load)


def show(
    options: argparse.Namespace,
    rows: Sequence[Row],
    limits: machine.Limits,
    team: Team,
    load: float | None,
) -> None:
    """Print the table and write the results' files."""
    print(f"{machine.cpu_name()}, {machine.cores()} cores")
    print(limits.text())
    for name, about in team.about.items():
        versions = ", ".join(f"{k} {v}" for k, v in about["versions"].items())
        print(f"{name}: {about['threads'] or 'default'} threads; {versions}")
    for name, reason in team.left_out.items():
        print(f"{name}: left out ({reason})")
    print("\n" + report.table(rows, [spec.name for spec in team.plan.specs]))
    for note in report.notes(rows):
        print(note)
    print("\n" + report.summary(rows))
    settings = {"rounds": team.plan.rounds, "first_rounds": team.plan.first_rounds,
                "round_seconds": team.plan.budget, "only": options.only, "quick": options.quick,
                "load_before": load}
    data = report.document(rows, limits, team.about, team.left_out, settings)
    path = report.write(data, partial=bool(options.only or options.quick or options.peers))
    written = [path, *plot.draw(data, path)]
    print("written: " + ", ".join(f"bench/results/{p.name}" for p in written))
    if len(written) == 1:
        print("no picture: matplotlib is not installed")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    options = parse(arguments)
    if options.gpu:
        gpu.main(options.only, options.rounds or (1 if options.quick else 5))
        return
    names = workloads.select(all_names(), options.only)
    if options.quick and not options.only:
        names = [name for name in names if name in workloads.BY_NAME]
    if not names:
        sys.exit(f"--only {options.only}: no such row; --list shows them")
    if options.list:
        for name in names:
            print(name)
        return
    run(options, names)


if __name__ == "__main__":
    main()
