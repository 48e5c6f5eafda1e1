"""What a trained NesT looked at: class activation maps and the path down its tree."""

from nestlib.explain.cam import cam
from nestlib.explain.gradcat import Traversal, gradcat

__all__ = ["Traversal", "cam", "gradcat"]
