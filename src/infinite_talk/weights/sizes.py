"""What an opened model will weigh, part by part, once it is built: for the memory planner; nothing is read."""

from __future__ import annotations
