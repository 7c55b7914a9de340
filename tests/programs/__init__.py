"""Small programs as people write them, from the libraries around JAX; nothing in them knows of Vulkan."""

from __future__ import annotations

from . import control, linear, modules, optimisers, random, scientific, solvers
from .case import Program

PROGRAMS: dict[str, Program] = {
    program.name: program
    for family in (control, linear, modules, optimisers, random, scientific, solvers)
    for program in family.PROGRAMS
}

__all__ = ["PROGRAMS", "Program"]
