"""Runs the primitive harnesses that ship inside the jax wheel on a platform and compares it with the CPU."""
