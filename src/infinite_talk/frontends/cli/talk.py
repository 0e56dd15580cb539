"""How a command talks: results on stdout, everything else on stderr."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Run:
    """The flags that all commands share."""

    json: bool = False
    quiet: bool = False
    verbose: int = 0

    @classmethod
    def of(cls, flags: Mapping[str, Any]) -> Self:
        """From the flags of a command; those that it does not have are off."""
        return cls(json=flags["json"], quiet=flags.get("quiet", False), verbose=flags.get("verbose", 0))

    def result(self, values: dict[str, Any], text: str) -> None:
        """Say the result: one object with ``--json``, else the text."""
        from .show import json_text

        sys.stdout.write((json_text(values) if self.json else text) + "\n")
        sys.stdout.flush()
