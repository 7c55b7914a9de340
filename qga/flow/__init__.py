"""Flow of patterns: the heat semigroup of an attention operator."""

from .heat import heat, order_for, pattern_flow, poisson_tail, poisson_weights

__all__ = ["heat", "order_for", "pattern_flow", "poisson_tail", "poisson_weights"]
