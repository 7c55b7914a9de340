"""Schedules found by measuring on the user's device: `tuner` measures, `store` keeps, compiling reads."""
