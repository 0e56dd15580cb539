"""How the server behaves towards the outside; what it makes videos with is the desk's business."""

from __future__ import annotations

from dataclasses import dataclass, field

KIB, MIB, GIB = 2**10, 2**20, 2**30
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
"""Host names under which only programs of this machine reach a server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpOptions:
    """Everything about the door."""

    api_key: str | None = field(default=None, repr=False)
    """Callers have to bring it in the Authorization header; ``None`` is for servers that only this machine reaches."""
    hosts: tuple[str, ...] | None = LOOPBACK
    """Names in the Host header that are answered, without a port; ``None``: any. A page elsewhere whose name was made
    to point here (DNS rebinding) is refused by this."""
    origins: tuple[str, ...] = ()
    """Origins of other web pages that may call, such as ``https://example.org``."""
    upload_bytes: int = 2 * GIB
    """Largest body of a request with files."""
    json_bytes: int = 64 * MIB
    """Largest body without files; media may be in it as data URLs."""
    small_bytes: int = MIB
    """Largest body of all other requests."""
    idle_seconds: float = 30.0
    """Without a byte of a body, after which a connection is given up."""
    slowest: int = KIB
    """Bytes per second of a body over its first half minute and longer."""
    heartbeat: float = 15.0
    """Seconds between comments on a silent event stream, so that nothing on the way gives it up."""
    poll: float = 0.5
    """Seconds between looks at the store, for streams that follow a job."""
    streams: int = 200
    """Event and preview streams open at the same time."""
    retry_after: int = 10
    """Seconds after which a refused client may try again."""
