"""A stand-in of the model hub on this machine: what ``huggingface_hub`` asks, and the ways in which it fails.

Large files are redirected to "storage", which is the same server under another host name, as the real hub does it.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = 1000  # bytes from which a file is in storage


@dataclass
class Fault:
    """What happens to the next ``times`` requests that match."""

    method: str
    path: str  # end of the file's path
    times: int = 1
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    after: int | None = None  # bytes that are sent before the rest is withheld
    stall: bool = False  # keep the connection open instead of closing it
    flip: bool = False  # one byte differs
    whole: bool = False  # ignore Range


@dataclass
class Asked:
    """One request that came."""

    method: str
    path: str
    headers: dict[str, str]


class FakeHub:
    """Files by repository, revision and path; faults; a log of all requests."""

    def __init__(self) -> None:
        self.files: dict[tuple[str, str, str], bytes] = {}
        self.faults: list[Fault] = []
        self.asked: list[Asked] = []
        self.token: str | None = None  # if set, only this one may read
        self.ended = threading.Event()
        self.port = 0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def add(self, repo: str, path: str, content: bytes, revision: str = "main") -> str:
        """Put a file there; returns its checksum as the hub shows it."""
        self.files[repo, revision, path] = content
        return etag(content)

    def fail(self, method: str, path: str, **how: Any) -> None:
        self.faults.append(Fault(method, path, **how))

    def gets(self) -> list[Asked]:
        return [one for one in self.asked if one.method == "GET"]

    def fault(self, method: str, path: str) -> Fault | None:
        for one in self.faults:
            if one.times > 0 and one.method == method and path.endswith(one.path):
                one.times -= 1
                return one
        return None


def etag(content: bytes) -> str:
    if len(content) >= LARGE:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    hub = FakeHub()

    class Handler(_Handler):
        pass

    Handler.hub = hub
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.ended.set()
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(head=True)

    def do_GET(self) -> None:
        self._answer(head=False)

    def _answer(self, *, head: bool) -> None:
        path = unquote(self.path.split("?")[0])
        hub = self.hub
        hub.asked.append(Asked(self.command, path, {k.lower(): v for k, v in self.headers.items()}))
        elsewhere = self.command == "GET" and not path.startswith("/storage/") and self._is_large(path)
        fault = None if elsewhere else hub.fault(self.command, path)
        if fault and fault.status:
            self._plain(fault.status, fault.headers)
        elif path.startswith("/storage/"):
            self._send(next(c for c in hub.files.values() if etag(c) == path.split("/")[2]), fault)
        else:
            self._resolve(path, head, fault)

    def _is_large(self, path: str) -> bool:
        """Whether it is redirected to storage, where the faults of its bytes happen."""
        return any(path.endswith(name) and len(c) >= LARGE for (_, _, name), c in self.hub.files.items())

    def _resolve(self, path: str, head: bool, fault: Fault | None) -> None:
        repo, _, rest = path[1:].partition("/resolve/")
        hub = self.hub
        repos = {one for one, _, _ in hub.files}
        if hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
            return self._plain(401, {"X-Error-Code": "GatedRepo"})
        if repo not in repos:
            return self._plain(404, {"X-Error-Code": "RepoNotFound"})
        for (one, revision, name), content in hub.files.items():
            if one == repo and rest in (f"{revision}/{name}", f"{COMMIT}/{name}"):
                return self._file(content, name, head, fault)
        return self._plain(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})

    def _file(self, content: bytes, name: str, head: bool, fault: Fault | None) -> None:
        about = {"X-Repo-Commit": COMMIT}
        if len(content) >= LARGE:
            place = f"http://localhost:{self.hub.port}/storage/{etag(content)}/{name}"
            linked = {"X-Linked-Etag": f'"{etag(content)}"', "X-Linked-Size": str(len(content))}
            return self._plain(302, about | linked | {"Location": place})
        if head:
            self.send_response(200)
            for key, value in (about | {"ETag": f'"{etag(content)}"'}).items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(content)))
            return self.end_headers()
        return self._send(content, fault, about)

    def _send(self, content: bytes, fault: Fault | None, about: dict[str, str] | None = None) -> None:
        if fault and fault.flip:
            content = content[:-1] + bytes([content[-1] ^ 1])
        start = 0
        wanted = self.headers.get("Range")
        if wanted and not (fault and fault.whole):
            start = int(wanted.removeprefix("bytes=").split("-")[0])
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        for key, value in (about or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        end = len(content) if fault is None or fault.after is None else start + fault.after
        self.wfile.write(content[start:end])
        self.wfile.flush()
        if fault and fault.stall:
            self.hub.ended.wait(5)
        if end < len(content):
            self.close_connection = True

    def _plain(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", "0")
        self.end_headers()
