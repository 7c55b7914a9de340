"""Named programs that cover every template of the code generator and every shape of control flow."""

from __future__ import annotations

from . import control, maps, models, products, rows, scatters
from .case import Case, normal

CASES: dict[str, Case] = {
    case.name: case for family in (maps, rows, scatters, products, control, models) for case in family.CASES
}

__all__ = ["CASES", "Case", "normal"]
