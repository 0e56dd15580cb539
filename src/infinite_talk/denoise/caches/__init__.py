"""Step caches: wrappers around the denoiser that skip work when consecutive steps would answer alike."""
