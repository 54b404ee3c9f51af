"""Rotations that leave an object's shape as it is, found in its mesh."""

from training.symmetry.search import find_symmetry
from training.symmetry.symmetry import Symmetry

__all__ = ["Symmetry", "find_symmetry"]
