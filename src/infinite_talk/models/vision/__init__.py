"""The image encoder: a picture to feature tokens."""

from infinite_talk.models.vision.config import VisionConfig
from infinite_talk.models.vision.model import ImageEncoder

__all__ = ["ImageEncoder", "VisionConfig"]
