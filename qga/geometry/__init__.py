"""Spaces and their geometry: constant curvature, rays, positive matrices, attention metrics, phases, Hamiltonians."""

from . import constant_curvature, gauge, holonomy, information, projective, riemannian, spd, symplectic

__all__ = ["constant_curvature", "gauge", "holonomy", "information", "projective", "riemannian", "spd", "symplectic"]
