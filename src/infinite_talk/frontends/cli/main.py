"""Entry point of the ``infinite-talk`` command."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    print("infinite-talk")
