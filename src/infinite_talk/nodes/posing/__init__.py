"""Poses of people in pictures, as UniAnimate wants to see them: found, fitted to another person, drawn."""

from infinite_talk.nodes.posing.detection import Detector, open_detector
from infinite_talk.nodes.posing.drawing import Style, draw
from infinite_talk.nodes.posing.skeleton import Skeleton, fitted_to

__all__ = ["Detector", "Skeleton", "Style", "draw", "fitted_to", "open_detector"]
