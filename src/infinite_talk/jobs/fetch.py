"""Media by URL, for services that allow it: from public addresses only, with caps kept while the bytes arrive.

A server that opens URLs for strangers can be made to speak to its own network (server-side request forgery). So a
name is resolved once, every address it has must be public, and the connection goes to the address that was checked,
not to the name: a name that changes its mind in between (DNS rebinding) changes nothing. Each redirect is a new URL
and is checked like the first. Proxies, cookies and compressed answers are not used.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Timer
from time import monotonic
from typing import Final
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from infinite_talk.errors import InputError
from infinite_talk.version import __version__

PIECE = 2**16
"""Bytes read at once."""
REDIRECTS: Final = (301, 302, 303, 307, 308)
MAX_URL = 8192
"""Characters."""
_SAFE = "%/:=&?~+!$,;'@()*[]-._"
"""Characters of a path or query that stay as they are; all others are percent-encoded."""
_GLOBAL_V6: Final = ipaddress.IPv6Network("2000::/3")
_ODD: Final = tuple(
    ipaddress.ip_network(block)
    for block in (
        "192.0.0.0/24",  # protocol assignments
        "192.88.99.0/24",  # relays to IPv6, out of use
        "2001::/23",  # protocol assignments; Teredo (2001::/32) has an IPv4 address inside
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: an IPv4 address inside
        "3fff::/20",  # documentation
    )
)
"""Beside what ``ipaddress`` itself does not call global; IANA's special-purpose registries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchRules:
    """What one download may be."""

    max_bytes: int = 2 * 1024**3
    seconds: float = 120.0
    """For everything, from the first look-up to the last byte."""
    stall_seconds: float = 15.0
    """Longest wait for a connection, or for the next bytes."""
    redirects: int = 3
    ports: frozenset[int] = frozenset({80, 443, 8080, 8443})
    """Ports of web servers; others speak other protocols, which a crafted URL may abuse."""


def resolve(host: str, port: int) -> Sequence[str]:
    """All addresses of a name, as the system knows them."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def connect(address: str, port: int, timeout: float) -> socket.socket:
    """A TCP connection to an address; no name is looked up."""
    return socket.create_connection((address, port), timeout)


@dataclass(frozen=True, slots=True)
class Network:
    """How names and addresses are reached."""

    resolve: Callable[[str, int], Sequence[str]] = resolve
    connect: Callable[[str, int, float], socket.socket] = connect


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public internet.

    Private, loopback, link-local (with the metadata services of clouds), shared, multicast, reserved and unspecified
    addresses do not, nor IPv6 addresses that carry an IPv4 address inside (mapped, 6to4, Teredo, NAT64).
    """
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:  # also an IPv6 address with a zone, which is link-local
        return False
    if isinstance(ip, ipaddress.IPv6Address) and ip not in _GLOBAL_V6:
        return False
    odd = any(ip.version == block.version and ip in block for block in _ODD)
    return ip.is_global and not ip.is_multicast and not ip.is_reserved and not odd


@contextmanager
def fetch(
    url: str, rules: FetchRules | None = None, network: Network | None = None
) -> Iterator[Iterator[bytes]]:
    """Open a URL; gives its bytes piece by piece.

        with fetch("https://example.org/voice.wav") as chunks:
            draft.add("audio", chunks)

    Raises:
        InputError: at once ``url_invalid``, ``url_private``, ``url_unreachable``, ``url_redirects``, ``url_status``,
            ``url_encoded``; also while reading ``url_too_large``, ``url_timeout``, ``url_incomplete``.
    """
    rules, network = rules or FetchRules(), network or Network()
    ends = monotonic() + rules.seconds
    for _ in range(rules.redirects + 1):
        parts = checked_url(url, rules)
        connection = _dial(parts, rules, network, ends)
        # Each read has a time limit of its own, but a server may send a byte now and then for ever.
        alarm = Timer(max(0.0, ends - monotonic()), _hang_up, (connection,))
        alarm.daemon = True
        alarm.start()
        try:
            response = _ask(connection, parts, ends)
            location = response.getheader("Location")
            if response.status not in REDIRECTS or not location:
                yield _body(response, rules, ends)
                return
        finally:
            alarm.cancel()
            connection.close()
        url = _next(url, location)
    raise InputError(
        f"The URL is redirected more than {rules.redirects} times; give the address it leads to.",
        code="url_redirects",
    )


def read_url(url: str, rules: FetchRules | None = None, network: Network | None = None) -> Iterator[bytes]:
    """The bytes behind a URL, piece by piece; nothing is opened before the first is asked for.

    Raises:
        InputError: as ``fetch``.
    """
    with fetch(url, rules, network) as chunks:
        yield from chunks


def checked_url(url: str, rules: FetchRules) -> SplitResult:
    """The parts of an ``http`` or ``https`` URL without anything unusual in it.

    Raises:
        InputError: ``url_invalid``.
    """
    if len(url) > MAX_URL or any(character <= " " or character == "\x7f" for character in url):
        raise _invalid("it is too long, or has spaces or control characters in it")
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
        if host is not None:
            host.encode("idna")
    except ValueError as error:  # of the port, of brackets, of a name
        raise _invalid("its host or port is no such thing") from error
    if parts.scheme not in ("http", "https"):
        raise _invalid("only http:// and https:// are fetched")
    if not host or "%" in host:
        raise _invalid("it names no host")
    if parts.username is not None or parts.password is not None:
        raise _invalid("a user name or password is not sent")
    if _port(parts) not in rules.ports:
        raise _invalid(f"port {port} is not among {', '.join(map(str, sorted(rules.ports)))}")
    return parts


def _port(parts: SplitResult) -> int:
    if parts.port is not None:
        return parts.port
    return 443 if parts.scheme == "https" else 80


def _dial(parts: SplitResult, rules: FetchRules, network: Network, ends: float) -> http.client.HTTPConnection:
    """A connection to an address of the URL's host that has been checked."""
    host, port = parts.hostname or "", _port(parts)
    try:
        addresses = network.resolve(host, port)
    except (OSError, UnicodeError) as error:
        raise _unreachable() from error
    if not addresses or not all(is_public(address) for address in addresses):
        raise InputError(
            "The URL does not lead to a public address; upload the file instead.", code="url_private"
        )
    for address in addresses[:4]:
        wait = min(rules.stall_seconds, ends - monotonic())
        if wait <= 0:
            raise _timeout()
        with suppress(OSError):
            line = network.connect(address, port, wait)
            try:
                return _speak(parts, line)
            except (OSError, ValueError):
                line.close()
    raise _unreachable()


def _speak(parts: SplitResult, line: socket.socket) -> http.client.HTTPConnection:
    """HTTP over an open connection; with TLS, the certificate has to be that of the URL's host."""
    host, port = parts.hostname or "", _port(parts)
    connection = http.client.HTTPConnection(host, port)
    if parts.scheme == "https":
        connection = http.client.HTTPSConnection(host, port)
        line = ssl.create_default_context().wrap_socket(line, server_hostname=host)
    connection.sock = line
    return connection


def _ask(connection: http.client.HTTPConnection, parts: SplitResult, ends: float) -> http.client.HTTPResponse:
    """Send the request and read the head of the answer."""
    target = quote(parts.path or "/", _SAFE) + (f"?{quote(parts.query, _SAFE)}" if parts.query else "")
    headers = {"Accept-Encoding": "identity", "User-Agent": f"infinite-talk/{__version__}"}
    try:
        connection.request("GET", target, headers=headers | {"Connection": "close"})
        return connection.getresponse()
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, TimeoutError) or monotonic() >= ends:
            raise _timeout() from error
        raise _unreachable() from error


def _next(url: str, location: str) -> str:
    """Where a redirect leads."""
    try:
        there = urljoin(url, location)
    except ValueError as error:
        raise _invalid("it is redirected to something else") from error
    if url.startswith("https:") and there.startswith("http:"):
        raise _invalid("it is redirected from https to http")
    return there


def _body(response: http.client.HTTPResponse, rules: FetchRules, ends: float) -> Iterator[bytes]:
    """Refuse an answer by its head, or give its bytes."""
    if response.status != http.client.OK:
        raise InputError(f"The server of the URL answers with status {response.status}.", code="url_status")
    if (response.getheader("Content-Encoding") or "identity").strip().lower() != "identity":
        raise InputError(
            "The server of the URL compresses its answer although asked not to; upload the file instead.",
            code="url_encoded",
        )
    if response.length is not None and response.length > rules.max_bytes:
        raise _too_large(rules)
    return _pieces(response, rules, ends)


def _pieces(response: http.client.HTTPResponse, rules: FetchRules, ends: float) -> Iterator[bytes]:
    received, promised = 0, response.length
    while True:
        try:
            piece = response.read1(PIECE)
        except (OSError, http.client.HTTPException, ValueError) as error:
            if isinstance(error, TimeoutError) or monotonic() >= ends:
                raise _timeout() from error
            raise _incomplete() from error
        if monotonic() >= ends:
            raise _timeout()
        if not piece:
            break
        received += len(piece)
        if received > rules.max_bytes:
            raise _too_large(rules)
        yield piece
    if promised is not None and received < promised:
        raise _incomplete()


def _hang_up(connection: http.client.HTTPConnection) -> None:
    """Wake a read that waits, from another thread."""
    line = connection.sock
    if line is not None:
        with suppress(OSError):
            line.shutdown(socket.SHUT_RDWR)


def _invalid(reason: str) -> InputError:
    return InputError(f"The URL cannot be used: {reason}.", code="url_invalid")


def _unreachable() -> InputError:
    return InputError(
        "The server of the URL cannot be reached; check the address, or upload the file.",
        code="url_unreachable",
    )


def _timeout() -> InputError:
    return InputError("The server of the URL takes too long; upload the file instead.", code="url_timeout")


def _incomplete() -> InputError:
    return InputError("The server of the URL stopped before the end; try again.", code="url_incomplete")


def _too_large(rules: FetchRules) -> InputError:
    return InputError(
        f"What the URL leads to is larger than {rules.max_bytes} bytes, the most that is accepted here.",
        code="url_too_large",
    )
