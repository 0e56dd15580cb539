"""Settings shared by all tests."""

from __future__ import annotations

import os

from hypothesis import settings

# The speed of the machine is not what is tested; on CI the same examples are tried every time.
settings.register_profile("project", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("project")
