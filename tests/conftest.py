"""Shared fixtures. Tests never depend on time: hypothesis deadlines are off, machines differ."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("project", deadline=None)
settings.load_profile("project")
