"""The command line ``qga``: programs made of the pure functions, not part of their interface."""
