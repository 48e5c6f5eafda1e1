"""What a trained model looked at: class activation maps, and the path down NesT's tree."""

from nestlib.explain.cam import cam
from nestlib.explain.gradcat import Traversal, gradcat

__all__ = ["Traversal", "cam", "gradcat"]
