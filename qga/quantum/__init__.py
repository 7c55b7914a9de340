"""Entropy and rank of states and of attention rows; complex states simulated classically."""

from .entropy import collision_entropy, density, effective_rank, entropy, purity, row_entropy

__all__ = ["collision_entropy", "density", "effective_rank", "entropy", "purity", "row_entropy"]
