"""Rewriting graphs by small rules: the driver, and the rules by topic.

Each module of rules has one list, `RULES`; the passes pick among them.
"""

from weft.compiler.rewrite.driver import (
    Rewriter,
    Rule,
    RuleTable,
    map_nested,
    rebuild,
    rewrite,
    rule,
)

__all__ = ["Rewriter", "Rule", "RuleTable", "map_nested", "rebuild", "rewrite", "rule"]
