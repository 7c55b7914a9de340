"""Motivic structure: here, the grading of a signal by weight. No category of motives is computed."""

from .haar import apply, energies, weights

__all__ = ["apply", "energies", "weights"]
