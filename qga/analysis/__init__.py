"""Look at attention: one typed report of every head of a layer or a model."""

from ..exact.observe import observe
from .analyze import analyze, analyze_model, observe_model
from .head import Head, Interval
from .plot_promises import plot_promises
from .promises import Trial, try_promises
from .report import Report

__all__ = [
    "Head",
    "Interval",
    "Report",
    "Trial",
    "analyze",
    "analyze_model",
    "observe",
    "observe_model",
    "plot_promises",
    "try_promises",
]
