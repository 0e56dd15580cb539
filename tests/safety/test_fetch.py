"""T5: URLs are fetched from public addresses only, from the address that was checked, within caps."""

from __future__ import annotations

import gzip
import ipaddress
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infinite_talk import InputError
from infinite_talk.jobs.fetch import FetchRules, Network, checked_url, fetch, is_public, read_url, resolve

PUBLIC = "93.184.216.34"
RULES = FetchRules(max_bytes=1_000_000, seconds=20.0, stall_seconds=5.0)


@contextmanager
def answering(*answers: bytes, drip: float | None = None) -> Iterator[tuple[Network, list[str], list[bytes]]]:
    """A network on which every public address is a local server giving ``answers`` in turn.

    Yields the network, the addresses that were dialled, and the requests that came. With ``drip`` the server sends
    one byte per so many seconds.
    """
    dialled, requests = [], []
    listener = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def serve():
        for answer in answers:
            try:
                line, _ = listener.accept()
            except OSError:
                return
            with line:
                requests.append(line.recv(65536))
                try:
                    for piece in (
                        [answer] if drip is None else (answer[i : i + 1] for i in range(len(answer)))
                    ):
                        line.sendall(piece)
                        if drip is not None and stop.wait(drip):
                            return
                except OSError:
                    pass

    thread = threading.Thread(target=serve)
    thread.start()

    def connect(address, port, timeout):
        dialled.append(f"{address}:{port}")
        return socket.create_connection(listener.getsockname(), timeout)

    try:
        yield Network(resolve=lambda host, port: [PUBLIC], connect=connect), dialled, requests
    finally:
        stop.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def head(status: str = "200 OK", *lines: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode()


def body(network: Network, url: str = "http://example.org/a.wav", rules: FetchRules = RULES) -> bytes:
    return b"".join(read_url(url, rules, network))


def refused(code: str, network: Network, url: str = "http://example.org/a", rules: FetchRules = RULES) -> str:
    with pytest.raises(InputError) as caught:
        body(network, url, rules)
    assert caught.value.code == code, caught.value
    return caught.value.message


def test_a_file_arrives_from_the_address_that_was_resolved():
    with answering(head("200 OK", "Content-Length: 5") + b"sound") as (network, dialled, requests):
        assert body(network, "http://example.org:8080/a%20b/ü.wav?x=1&y=ö#part") == b"sound"
    assert dialled == [f"{PUBLIC}:8080"]
    line, *headers = requests[0].decode().split("\r\n")
    assert line == "GET /a%20b/%C3%BC.wav?x=1&y=%C3%B6 HTTP/1.1"
    assert "Host: example.org:8080" in headers and "Accept-Encoding: identity" in headers
    assert not any(header.lower().startswith(("cookie", "authorization", "referer")) for header in headers)


def test_a_chunked_answer_is_joined():
    chunked = b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    with answering(head("200 OK", "Transfer-Encoding: chunked") + chunked) as (network, _, _):
        assert body(network) == b"abcde"


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://example.org/a",
        "gopher://example.org/",
        "data:text/plain,a",
        "//example.org/a",
        "example.org/a",
        "http://",
        "http:///a",
        "http://user:word@example.org/",
        "http://user@example.org/",
        "http://example.org:22/",
        "http://example.org:99999/",
        "http://example.org:x/",
        "http://[::1",
        "http://[fe80::1%25eth0]/",
        "http://example.org/a b",
        "http://example.org/\r\nX: y",
        "http://exam\nple.org/",
        "\x00http://example.org/",
        "http://" + "a" * 64 + ".org/",
        "http://a..b/",
        "http://example.org/" + "a" * 9000,
        "",
    ],
)
def test_only_plain_web_addresses_are_urls(url):
    with pytest.raises(InputError) as caught:
        checked_url(url, RULES)
    assert caught.value.code == "url_invalid"


INNER = [
    "127.0.0.1",
    "127.255.0.1",
    "0.0.0.0",
    "10.1.2.3",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "192.0.0.8",
    "192.0.2.1",
    "192.88.99.1",
    "198.18.0.1",
    "203.0.113.5",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:8.8.8.8",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "3fff::1",
    "fc00::1",
    "fd12::1",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "localhost",
    "",
]


@pytest.mark.parametrize("address", INNER)
def test_addresses_that_are_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", [PUBLIC, "8.8.8.8", "1.1.1.1", "2606:4700::1111", "2a00:1450:4001:80b::200e"]
)
def test_addresses_that_are_public(address):
    assert is_public(address)


@given(st.integers(0, 2**32 - 1))
def test_no_form_of_an_inner_ipv4_address_is_public(number):
    """Whatever carries it: only the plain form of a global address passes."""
    ip = ipaddress.IPv4Address(number)
    assert is_public(str(ip)) <= ip.is_global
    for carrier in (0, 0xFFFF << 32, 0x64FF9B << 96, 0x2002 << 112):
        shifted = number << 80 if carrier == 0x2002 << 112 else number
        assert not is_public(str(ipaddress.IPv6Address(carrier | shifted)))


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "0x7f000001", "2130706433", "127.1", "017700000001", "localhost", "[::1]"]
)
def test_t5_every_spelling_of_this_machine_is_refused_before_dialling(host):
    """With the system's own resolver, which understands them all."""
    dialled: list[str] = []

    def connect(address, port, timeout):
        dialled.append(address)
        raise AssertionError

    refused_or_unknown = pytest.raises(InputError)
    with refused_or_unknown as caught, fetch(f"http://{host}/", RULES, Network(resolve, connect)):
        pass
    assert caught.value.code in {"url_private", "url_unreachable"} and not dialled


def test_t5_one_inner_address_among_public_ones_is_enough_to_refuse():
    for inner in ("10.0.0.1", "::1"):
        network = Network(resolve=lambda host, port, inner=inner: [PUBLIC, inner], connect=None)
        refused("url_private", network)


def test_t5_a_name_that_changes_its_mind_changes_nothing():
    """DNS rebinding: the second look-up, had there been one, would lead inside."""
    looked_up = []
    with answering(head("200 OK", "Content-Length: 2") + b"ok") as (network, dialled, _):

        def rebinding(host, port):
            looked_up.append(host)
            return [PUBLIC] if len(looked_up) == 1 else ["127.0.0.1"]

        assert body(Network(rebinding, network.connect)) == b"ok"
    assert looked_up == ["example.org"] and dialled == [f"{PUBLIC}:80"]


def test_t5_a_redirect_is_checked_like_the_first_url():
    there = head("302 Found", "Location: http://inside.example/secret", "Content-Length: 0")
    with answering(there) as (network, dialled, _):
        names = {"example.org": [PUBLIC], "inside.example": ["169.254.169.254"]}
        refused("url_private", Network(lambda host, port: names[host], network.connect))
    assert dialled == [f"{PUBLIC}:80"]
    for location in ("file:///etc/passwd", "http://example.org:22/", "http://[::1"):
        with answering(head("301 Moved", f"Location: {location}")) as (network, _, _):
            refused("url_invalid", network)


def test_t5_at_most_three_redirects():
    step = head("307 Temporary Redirect", "Location: /next", "Content-Length: 0")
    arrived = head("200 OK", "Content-Length: 2") + b"ok"
    with answering(step, step, step, arrived) as (network, dialled, requests):
        assert body(network) == b"ok"
    assert len(dialled) == 4 and requests[-1].startswith(b"GET /next ")
    with answering(*[step] * 4) as (network, dialled, _):
        refused("url_redirects", network)
    assert len(dialled) == 4


def test_t5_a_declared_body_over_the_cap_is_not_read():
    with answering(head("200 OK", "Content-Length: 10000000000")) as (network, _, _):
        refused("url_too_large", network)


@pytest.mark.parametrize("framing", ["Connection: close", "Transfer-Encoding: chunked"])
def test_t5_a_body_without_a_length_is_cut_at_the_cap(framing):
    data = bytes(300_000)
    if "chunked" in framing:
        data = b"".join(b"10000\r\n" + bytes(65536) + b"\r\n" for _ in range(5))
    with answering(head("200 OK", framing) + data) as (network, _, _):
        refused("url_too_large", network, rules=FetchRules(max_bytes=200_000))


def test_t5_a_compressed_answer_is_refused():
    bomb = gzip.compress(bytes(10_000_000))
    declared = head("200 OK", "Content-Encoding: gzip", f"Content-Length: {len(bomb)}")
    with answering(declared + bomb) as (network, _, _):
        refused("url_encoded", network)


@pytest.mark.parametrize("answer", [head("200 OK", "Content-Length: 1000000") + bytes(1000), head()[:-2]])
def test_t5_a_server_that_drips_is_left_when_the_time_is_over(answer):
    """In the head as in the body, although every single byte comes in time."""
    with answering(answer, drip=0.02) as (network, _, _):
        refused("url_timeout", network, rules=FetchRules(seconds=0.3, stall_seconds=5.0))


def test_t5_a_server_that_says_nothing_is_left():
    with answering(b"H" * 100, drip=30.0) as (network, _, _):
        refused("url_timeout", network, rules=FetchRules(seconds=20.0, stall_seconds=0.2))


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (head("404 Not Found", "Content-Length: 0"), "url_status"),
        (head("206 Partial Content", "Content-Length: 1") + b"a", "url_status"),
        (head("302 Found", "Content-Length: 0"), "url_status"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "url_unreachable"),
        (b"", "url_unreachable"),
        (head("200 OK", "Content-Length: 10") + b"half", "url_incomplete"),
        (head("200 OK", "Transfer-Encoding: chunked") + b"zz\r\n", "url_incomplete"),
        (head("200 OK", *[f"X-{n}: y" for n in range(300)]), "url_unreachable"),
        (head("200 OK", "X: " + "y" * 100_000), "url_unreachable"),
    ],
)
def test_odd_servers_end_in_our_errors(answer, code):
    with answering(answer) as (network, _, _):
        refused(code, network)


def test_https_needs_the_certificate_of_the_name():
    """A server without TLS: nothing is sent to it in the clear."""
    with answering(b"HTTP/1.1 200 OK\r\n\r\n") as (network, _, requests):
        refused("url_unreachable", network, "https://example.org/a")
    assert not requests or b"GET" not in requests[0]


def test_https_does_not_become_http():
    from infinite_talk.jobs.fetch import _next

    with pytest.raises(InputError, match="from https to http"):
        _next("https://example.org/a", "http://example.org/a")
    assert _next("https://example.org/a/b", "../c") == "https://example.org/c"


def test_messages_do_not_repeat_the_url():
    """It may carry a token, and goes into logs with the message."""
    message = refused(
        "url_private", Network(lambda host, port: ["10.0.0.1"]), "http://example.org/?token=sesame"
    )
    assert "sesame" not in message and "10.0.0.1" not in message
