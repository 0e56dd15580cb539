"""Workflows: graphs of nodes saved by ComfyUI as JSON, read, checked and run without it."""
