"""Tuning data: for each family of devices one file of rows, of which the first that applies wins."""

from .rows import device_family, read_rows

__all__ = ["device_family", "read_rows"]
