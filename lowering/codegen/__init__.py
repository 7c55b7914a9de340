"""Kernels from fusions: expressions evaluated at positions, in the frame that each kind of fusion has."""
