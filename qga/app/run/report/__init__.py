"""The report of a run: one self-contained HTML file."""

from .contents import Half, Report
from .page import render

__all__ = ["Half", "Report", "render"]
