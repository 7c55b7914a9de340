"""Tests of the pure functions and of ``qga run``."""
