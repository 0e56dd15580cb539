"""What the models are told: text, picture, speech and people become ``Conditioning`` and ``Guide``."""

from infinite_talk.conditioning.encode import encode, guide_for
from infinite_talk.conditioning.image import Reference, References

__all__ = ["Reference", "References", "encode", "guide_for"]
