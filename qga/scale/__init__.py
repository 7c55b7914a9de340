"""Scale: halving and doubling of resolution, and what scores become when keys are merged in pairs."""

from .field import coarsen, refine
from .scores import centroid_scores, coarsen_scores, jensen_gap

__all__ = ["centroid_scores", "coarsen", "coarsen_scores", "jensen_gap", "refine"]
