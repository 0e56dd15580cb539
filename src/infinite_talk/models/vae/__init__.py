"""The video autoencoder: pictures to latents and back."""

from infinite_talk.models.vae.config import VAEConfig
from infinite_talk.models.vae.model import VideoVAE

__all__ = ["VAEConfig", "VideoVAE"]
