"""Look at attention: one typed report of every head of a layer or a model."""

from ..exact.observe import observe
from .analyze import analyze, analyze_model
from .head import Head, Interval
from .report import Report

__all__ = ["Head", "Interval", "Report", "analyze", "analyze_model", "observe"]
