"""Bytes that no proper client sends, to the real server over a socket: an answer or a closed line, and it goes on."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
import uvicorn

from infinite_talk.frontends.http.heads import PatientProtocol
from tests.safety.service import serving


class Impatient(PatientProtocol):
    seconds = 1.0


@pytest.fixture(scope="module")
def port(tmp_path_factory) -> Iterator[int]:
    """uvicorn as ``serve`` sets it up."""
    with serving(tmp_path_factory.mktemp("data")) as service, socket.create_server(("127.0.0.1", 0)) as line:
        config = uvicorn.Config(
            service.app,
            http=Impatient,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            lifespan="off",
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [line]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield line.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


def said(port: int, *pieces: bytes) -> bytes:
    """What the server answers until it closes, or nothing more comes."""
    with socket.create_connection(("127.0.0.1", port), 10) as line:
        try:
            for piece in pieces:
                line.sendall(piece)
            line.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it has closed already
        answer = b""
        try:
            while piece := line.recv(65536):
                answer += piece
        except OSError:
            pass
        return answer


def request(path: bytes, *headers: bytes, method: bytes = b"GET", body: bytes = b"") -> bytes:
    lines = [method + b" " + path + b" HTTP/1.1", b"Host: localhost", b"Connection: close", *headers]
    return b"\r\n".join([*lines, b"", b""]) + body


JSON = b"Content-Type: application/json"
WRONG = {
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc" + bytes(200),
    "empty lines": b"\r\n" * 1000,
    "a huge header": request(b"/health", b"X: " + b"a" * 2_000_000),
    "many headers": request(b"/health", *[b"X-%d: y" % number for number in range(100_000)]),
    "a huge path": request(b"/" + b"a" * 2_000_000),
    "a negative length": request(b"/v1/videos", JSON, b"Content-Length: -1", method=b"POST"),
    "a huge length": request(b"/v1/videos", JSON, b"Content-Length: " + b"9" * 40, method=b"POST"),
    "two lengths": request(
        b"/v1/videos", JSON, b"Content-Length: 2", b"Content-Length: 3", method=b"POST", body=b"{}"
    ),
    "length and chunks": request(
        b"/v1/videos",
        JSON,
        b"Content-Length: 2",
        b"Transfer-Encoding: chunked",
        method=b"POST",
        body=b"0\r\n\r\n",
    ),
    "a body that is shorter": request(
        b"/v1/videos", JSON, b"Content-Length: 1000", method=b"POST", body=b"{}"
    ),
    "a bad chunk": request(
        b"/v1/videos", JSON, b"Transfer-Encoding: chunked", method=b"POST", body=b"zz\r\n{}\r\n0\r\n\r\n"
    ),
    "a huge chunk": request(
        b"/v1/videos", JSON, b"Transfer-Encoding: chunked", method=b"POST", body=b"f" * 20 + b"\r\n{}"
    ),
    "two hosts": request(b"/v1/videos", b"Host: evil.example"),
    "a line feed in a header": request(b"/v1/videos", b"X: a\nHost: evil.example"),
    "a return in a header": request(b"/v1/videos", b"X: a\rY: b"),
    "a null in a header": request(b"/v1/videos", b"X: a\0b"),
    "an absolute address": request(b"http://evil.example/v1/videos"),
    "an odd method": request(b"/v1/videos", method=b"GET\t/x"),
    "an upgrade": request(
        b"/ui/", b"Upgrade: websocket", b"Sec-WebSocket-Key: x", b"Sec-WebSocket-Version: 13"
    ),
    "a form without a boundary": request(
        b"/v1/videos",
        b"Content-Type: multipart/form-data",
        b"Content-Length: 4",
        method=b"POST",
        body=b"--b\r",
    ),
    "a form with many parts": request(
        b"/v1/videos",
        b"Content-Type: multipart/form-data; boundary=b",
        b"Content-Length: %d" % (60 * 20_000),
        method=b"POST",
        body=(b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n'.ljust(60, b"x")) * 20_000,
    ),
    "a part with a huge header": request(
        b"/v1/videos",
        b"Content-Type: multipart/form-data; boundary=b",
        b"Content-Length: 1000000",
        method=b"POST",
        body=b"--b\r\nContent-Disposition: " + b"x" * 999_974,
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_huge_and_lying_headers(port, wrong):
    answer = said(port, WRONG[wrong])
    status = answer.split(b" ", 2)[1:2]
    assert not answer or b"400" <= status[0] < b"500", answer[:300]
    assert b"Traceback" not in answer
    assert said(port, request(b"/health")).startswith(b"HTTP/1.1 200")


def test_t6_a_head_that_does_not_come_closes_the_line(port):
    """A byte now and then does not help; a line on which a request came before is closed likewise."""
    whole = request(b"/health").replace(b"Connection: close\r\n", b"")
    for before in (b"", whole):
        with socket.create_connection(("127.0.0.1", port), 60) as line:
            line.sendall(before + b"GET /health HT")
            line.settimeout(0.1)
            got = b""
            for _ in range(600):
                try:
                    piece = line.recv(65536)
                    if not piece:
                        break
                    got += piece
                except TimeoutError:
                    with suppress(OSError):
                        line.send(b"T")
                except OSError:  # reset
                    break
            else:
                raise AssertionError("the line is still open")
            assert got.count(b"200 OK") == (1 if before else 0)
    assert said(port, request(b"/health")).startswith(b"HTTP/1.1 200")


def test_an_answer_has_no_second_one_behind_it(port):
    """Request smuggling: what the first request calls its body is not read as another request."""
    inner = request(b"/v1/models")
    smuggled = request(
        b"/v1/videos", JSON, b"Content-Length: %d" % len(inner), method=b"POST", body=inner
    ).replace(b"Connection: close\r\n", b"", 1)
    answer = said(port, smuggled)
    assert answer.count(b"HTTP/1.1 ") == 1 and b'"object":"list"' not in answer
