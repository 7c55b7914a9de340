"""``qga run``: train on the CPU and on Vulkan from the same seed, compare, look inside, write a report."""

from .execute import execute
from .options import add_parser

__all__ = ["add_parser", "execute"]
