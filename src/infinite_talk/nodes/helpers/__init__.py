"""Nodes of ComfyUI and of other packs that InfiniteTalk workflows use, for running these workflows without ComfyUI."""
