"""Join tables of rules."""

from __future__ import annotations

from ..rewriting import Rule, Rules


def merge_rules(*tables: Rules) -> dict[str, tuple[Rule, ...]]:
    """Return one table; for each operation the rules of earlier tables are tried first."""
    result: dict[str, tuple[Rule, ...]] = {}
    for table in tables:
        for op, rules in table.items():
            result[op] = (*result.get(op, ()), *rules)
    return result
