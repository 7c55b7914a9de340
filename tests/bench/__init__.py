"""Benchmarks: `python -m tests.bench` builds, checks and times what the project promises; see docs/benchmarks.md."""
