"""Infinite Talk: one portrait and a speech recording in, a lip-synced talking video of any length out."""

__version__ = "0.1.0"
