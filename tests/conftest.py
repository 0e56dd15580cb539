"""Shared by all tests. Nothing depends on time: hypothesis deadlines are off, machines differ."""

from __future__ import annotations

import os

from hypothesis import settings

# On CI the same examples are tried every time.
settings.register_profile("project", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("project")
