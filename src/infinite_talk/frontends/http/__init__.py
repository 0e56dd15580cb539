"""The HTTP interface: programs order videos, follow them, fetch them. A thin client of the desk."""

from infinite_talk.frontends.http.app import create_app
from infinite_talk.frontends.http.options import HttpOptions

__all__ = ["HttpOptions", "create_app"]
