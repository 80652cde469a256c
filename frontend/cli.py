"""``python -m weft``: graphs, explanations, devices, ops and the cache, from a shell."""

from __future__ import annotations

import argparse
import os
import sys
import textwrap
from collections.abc import Callable, Sequence

from weft.compiler.errors import WeftError
from weft.compiler.ir import Graph
from weft.compiler.lazy_dataclass import replace
from weft.compiler.ops import KINDS, OPS, get_op
from weft.compiler.ops.registry import Op
from weft.compiler.passes import DEFAULT, PASSES, Decompose, Pass, pipeline_for, run_pipeline
from weft.compiler.target import Target
from weft.compiler.types import DTYPES
from weft.devices.listing import devices
from weft.devices.registry import DEFAULT_DEVICE, get_device
from weft.frontend.cli_target import CommandError, load_function, read_graph
from weft.frontend.explain import explain
from weft.frontend.location import get_default_device
from weft.runtime.cache import default_cache

__all__ = ["main"]

_STAGES = ("trace", "optimized", "history", "diff", "kernels", "llvm", "asm")
_TARGET = "FILE.py:function, or a file with a graph as weft prints it"
_ARGS = "arguments: types such as \"f32[3, 4], i64, f32[B, 8]\", or Python values"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, or 1 after an error, which is printed, and where
    a device fails a check of its conformance.

    >>> main(["ops", "tanh"])
    tanh (elementwise): hyperbolic tangent
      operands: 1   cost: 18 per element
    0
    """
    options = _parser().parse_args(argv)
    try:
        command: Callable[[argparse.Namespace], int | None] = options.command
        return command(options) or 0
    except BrokenPipeError:              # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (WeftError, OSError) as error:
        print(f"weft: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="weft", description="A graph compiler for NumPy code.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    show = _command(commands, "show", _show, "print a function's graph or code")
    show.add_argument("target", help=_TARGET)
    show.add_argument("--args", default="", help=_ARGS)
    show.add_argument("--stage", choices=_STAGES, default="optimized",
                      help="what to print (default: %(default)s)")
    show.add_argument("--device", help=f"the device to compile for (default: {DEFAULT_DEVICE})")
    about = _command(commands, "explain", _explain, "say what becomes of a function, and why")
    about.add_argument("target", help="FILE.py:function")
    about.add_argument("--args", default="", help=_ARGS)
    about.add_argument("--device", help=f"the device to compile for (default: {DEFAULT_DEVICE})")
    _command(commands, "devices", _devices, "list the devices and what ails them")
    ops = _command(commands, "ops", _ops, "list the primitive ops, or describe one")
    ops.add_argument("name", nargs="?")
    cache = _command(commands, "cache", _cache, "the machine code kept on disk")
    cache.add_argument("action", choices=("info", "clear"), nargs="?", default="info")
    opt = _command(commands, "opt", _opt, "run passes on a graph and print the result")
    opt.add_argument("file", nargs="?", default="-", help="a file with a graph; - for the input")
    opt.add_argument("--passes", help="names separated by commas (default: all, in their order)")
    opt.add_argument("--device", help="take this device's target and ops")
    opt.add_argument("--diff", action="store_true", help="print what each pass changed instead")
    opt.add_argument("--history", action="store_true", help="print the passes' times instead")
    _add_conformance(commands)
    return parser


def _add_conformance(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    held = _command(commands, "conformance", _conformance,
                    "hold a device to what every device promises")
    held.add_argument("--device", required=True, help="its name, such as gpu or gpu:1")
    held.add_argument("--op", action="append", default=[], help="only this op; may be repeated")
    held.add_argument("--dtype", action="append", default=[], choices=list(DTYPES),
                      metavar="DTYPE", help="only this element type, such as f32; may be repeated")
    held.add_argument("--group", action="append", default=[], help="only these checks: "
                      "contract, ops, jvp, vjp, batch, control, sizes, errors, random or calls")
    held.add_argument("-j", "--jobs", type=int, default=1, metavar="N",
                      help="processes that share the checks of ops (default: %(default)s)")
    held.add_argument("-v", "--verbose", action="store_true",
                      help="list what became of each op in each element type")


def _conformance(options: argparse.Namespace) -> int:
    from weft.frontend.conformance import ALL_GROUPS, command  # seldom asked for

    unknown = [g for g in options.group if g not in ALL_GROUPS]
    if unknown:
        raise CommandError(f"there is no group of checks named {unknown[0]!r}",
                           expected=f"one of {', '.join(ALL_GROUPS)}")
    return command(options)


def _command(commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str,
             run: Callable[[argparse.Namespace], int | None], help: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=help, description=help)
    parser.set_defaults(command=run)
    return parser


# ---- show and explain


def _show(options: argparse.Namespace) -> None:
    if ".py:" in options.target:
        function, arguments = load_function(options.target, options.args, options.device)
        traced = function.trace(*arguments)
        device, graph = traced.source.options.device, traced.graph
    else:
        device, graph = options.device or DEFAULT_DEVICE, read_graph(options.target)
    print(_stage_text(graph, device, options.stage))


def _stage_text(graph: Graph, device: str, stage: str) -> str:
    if stage == "trace":
        return graph.text()
    chosen = get_device(device)
    optimized, history = run_pipeline(graph, chosen.target(), pipeline_for(chosen.supported()))
    if stage == "optimized":
        return optimized.text()
    if stage in ("history", "diff"):
        return history.text() if stage == "history" else history.diff()
    return chosen.lower(optimized, chosen.target()).text(stage).rstrip("\n")


def _explain(options: argparse.Namespace) -> None:
    if ".py:" not in options.target:
        raise CommandError(f"{options.target!r} is not FILE.py:function")
    function, arguments = load_function(options.target, options.args, options.device)
    print(explain(function, *arguments))


# ---- lists


def _devices(options: argparse.Namespace) -> None:
    for device in devices():
        mark = " (default)" if device.name == get_default_device() else ""
        print(f"{device.name}{mark}: {device.problem or device.description}")
        if device.repair:
            print(f"  repair: {device.repair}")


def _ops(options: argparse.Namespace) -> None:
    if options.name:
        print(_op_text(get_op(options.name)))
        return
    for kind, meaning in KINDS.items():
        names = [op.name for op in OPS.values() if op.kind == kind]
        print(f"{kind}: {meaning}")
        print(textwrap.fill(", ".join(names), 96, initial_indent="  ", subsequent_indent="  "))


def _op_text(op: Op) -> str:
    operands = "any number" if op.arity is None else str(op.arity)
    lines = [f"{op.name} ({op.kind}): {op.doc}",
             f"  operands: {operands}   cost: {op.cost:g} per element"]
    if op.attrs:
        lines.append(f"  attributes: {', '.join(op.attrs)}")
    if op.decompose is not None:
        lines.append("  can be written in other ops")
    return "\n".join(lines)


def _cache(options: argparse.Namespace) -> None:
    cache = default_cache()
    if options.action == "clear":
        cache.clear()
    stats = cache.stats()
    state = "" if stats.enabled else " (switched off)"
    print(f"{stats.directory}{state}: {stats.entries} entries, {stats.bytes / 2**20:.1f} MiB of "
          f"at most {stats.limit_bytes / 2**20:.0f} MiB")


# ---- passes


def _opt(options: argparse.Namespace) -> None:
    graph, target = read_graph(options.file), Target()
    passes: tuple[Pass, ...] = DEFAULT if options.passes is None else tuple(
        _pass(name.strip()) for name in options.passes.split(","))
    if options.device:
        device = get_device(options.device)
        target, passes = device.target(), pipeline_for(device.supported(), passes)
    else:                                # without a device there is nothing that must be decomposed
        passes = tuple(replace(p, supported=frozenset(OPS)) if isinstance(p, Decompose) else p
                       for p in passes)
    out, history = run_pipeline(graph, target, passes)
    print(history.diff() if options.diff else history.text() if options.history else out.text())


def _pass(name: str) -> Pass:
    if name not in PASSES:
        raise CommandError(f"there is no pass named {name!r}",
                           expected=f"one of {', '.join(PASSES)}")
    return PASSES[name]()
