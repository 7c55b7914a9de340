"""The judge: what every operation means in NumPy, and an interpreter of whole graphs."""

from .interpreter import MEANINGS, evaluate, run

__all__ = ["MEANINGS", "evaluate", "run"]
