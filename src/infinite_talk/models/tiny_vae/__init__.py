"""Tiny decoders for previews and drafts: latents to pictures at a fraction of the codec's cost."""

from infinite_talk.models.tiny_vae.config import TinyVAEConfig
from infinite_talk.models.tiny_vae.model import TinyVAE

__all__ = ["TinyVAE", "TinyVAEConfig"]
