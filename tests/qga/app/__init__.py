"""Tests of ``qga run``."""
