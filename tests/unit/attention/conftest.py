"""A machine that a test furnishes as it likes."""

from tests.unit.attention.packages import machine

__all__ = ["machine"]
