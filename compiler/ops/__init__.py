"""All ops. A module of this package is loaded when one of its ops is first asked for; see
`families` for which has which."""

from weft.compiler.ops.registry import KINDS, OPS, Op, get_op, names_of_kind, register

__all__ = ["KINDS", "OPS", "Op", "get_op", "names_of_kind", "register"]
