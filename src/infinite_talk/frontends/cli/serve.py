"""``infinite-talk serve``: the page, the HTTP interface and the workers, in one command."""

from __future__ import annotations

import ipaddress
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

from infinite_talk import InfiniteTalkError, Settings, UsageError

from .config import PREFIX, Options
from .jobs import data_dir_of
from .requests import build_settings
from .show import Show
from .stop import INTERRUPTED, Stop, polite_stop
from .talk import Run

if TYPE_CHECKING:
    from fastapi import FastAPI

    from infinite_talk.frontends.http import HttpOptions
    from infinite_talk.jobs.desk import Desk
    from infinite_talk.jobs.limits import Limits
    from infinite_talk.jobs.supervisor import Slot, Supervisor

KEY_VARIABLE = PREFIX + "API_KEY"
SHORTEST_KEY = 16
"""Characters of an API key; ``openssl rand -hex 16`` gives 32."""
SWEEP = 600.0
"""Seconds between two looks for what is not kept any longer."""
GRACE = 10
"""Seconds that open answers have when the server ends."""
GIB = 2**30
MAX_PORT = 65_535


@dataclass(frozen=True, slots=True)
class Door:
    """Where the server is reached, and by whom."""

    host: str
    port: int
    key: str | None
    hosts: tuple[str, ...]
    origins: tuple[str, ...]

    @classmethod
    def of(cls, flags: Mapping[str, Any]) -> Door:
        """From the flags and the environment.

        Raises:
            UsageError: no usable key, where one is needed.
        """
        host, key = flags["host"], api_key(flags["api_key_file"])
        if key is None and not is_loopback(host):
            raise UsageError(
                f"--host {host} lets other machines in, which needs an API key: put one of at least {SHORTEST_KEY} "
                f"characters into a file and give --api-key-file FILE, or set {KEY_VARIABLE}.",
                code="key_needed",
            )
        return cls(
            host, flags["port"], key, tuple(flags["allow_host"] or ()), tuple(flags["allow_origin"] or ())
        )

    def options(self, upload_bytes: int | None) -> HttpOptions:
        """For the application."""
        from infinite_talk.frontends.http import HttpOptions
        from infinite_talk.frontends.http.options import LOOPBACK

        named = tuple(name.lower() for name in self.hosts)
        # Who is let in from elsewhere calls this machine by names that only they know, and has a key.
        hosts = (*LOOPBACK, *named) if named or is_loopback(self.host) else None
        options = HttpOptions(api_key=self.key, hosts=hosts, origins=self.origins)
        return options if upload_bytes is None else replace(options, upload_bytes=upload_bytes)


def serve(options: Options, flags: Mapping[str, Any], run: Run) -> int:
    """Serve until Ctrl-C or SIGTERM; the running jobs go back to their places in the queue."""
    from infinite_talk.frontends.http import create_app
    from infinite_talk.jobs.checking import Checker
    from infinite_talk.jobs.presence import only_server
    from infinite_talk.jobs.supervisor import Supervisor

    door, limits = Door.of(flags), limits_of(flags)
    settings = absolute(build_settings(options))
    with (
        polite_stop(
            "the running job goes back to its place in the queue", "the next server continues it"
        ) as stop,
        Show(quiet=run.quiet) as show,
        listening(door.host, door.port) as line,
        desk_of(options, flags, limits) as desk,
        only_server(desk.folder),
    ):
        keep_profile(desk, settings)
        checker = Checker(settings)
        slots, here = _slots(flags), flags["workers"] != 0
        with Supervisor(desk.store, desk.folder, options.database, slots=slots) as supervisor, sweeping(desk):
            app = create_app(
                desk,
                door.options(limits.upload_bytes),
                checker=checker,
                fetch=_fetch() if flags["allow_urls"] else None,
                workers=(lambda: len(supervisor.workers)) if here else None,
            )
            if flags["page"]:
                _add_page(app, desk, checker, limits)
            _announce(door, line, desk, supervisor, run, show)
            _run(app, line, stop)
    return _ending(stop)


def api_key(file: Path | None) -> str | None:
    """The key from a file or the environment; child processes do not inherit it.

    Raises:
        UsageError: the file cannot be read, or the key is too short or has characters that no header carries.
    """
    variable = os.environ.pop(KEY_VARIABLE, None)
    if file is not None:
        try:
            key = file.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"--api-key-file {file} cannot be read: {error}.") from None
    elif variable is not None:
        key = variable.strip()
    else:
        return None
    if len(key) < SHORTEST_KEY or not (key.isascii() and key.isprintable()) or " " in key:
        raise UsageError(
            f"The API key has {len(key)} characters; expected at least {SHORTEST_KEY}, letters, digits and signs "
            "without spaces. openssl rand -hex 16 makes one.",
            code="bad_key",
        )
    return key


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server there."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def limits_of(flags: Mapping[str, Any]) -> Limits:
    """What is accepted; what no flag says has the usual limit."""
    from infinite_talk.jobs.limits import Limits

    limits = Limits()
    if flags["max_queue"] is not None:
        limits = replace(limits, queued=flags["max_queue"])
    if flags["max_upload"] is not None:
        limits = replace(limits, upload_bytes=round(flags["max_upload"] * GIB))
    if flags["max_seconds"] is not None:
        limits = replace(limits, seconds=flags["max_seconds"])
    return limits


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """The line that the server takes calls on.

    Raises:
        UsageError: there is no such address, or the port is taken.
    """
    if not 0 <= port <= MAX_PORT:
        raise UsageError(f"--port {port}: expected 0 (any free one) to {MAX_PORT}.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        line = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError, OverflowError) as error:
        raise UsageError(f"--host {host} --port {port} is no address of this machine: {error}.") from None
    with line:
        try:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            line.bind(address)
            line.listen(2048)
        except OSError as error:
            raise UsageError(
                f"{host}:{port} cannot be used: {error.strerror or error}. Choose another --port (0: any free one).",
                code="port",
            ) from None
        yield line


@contextmanager
def desk_of(options: Options, flags: Mapping[str, Any], limits: Limits) -> Iterator[Desk]:
    """The desk of the data folder, which is made if need be."""
    from infinite_talk.jobs import Retention
    from infinite_talk.jobs.desk import Desk

    days, size = flags["keep_days"], flags["keep_gib"]
    retention = Retention(
        seconds=None if days is None else days * 86_400.0, bytes=None if size is None else round(size * GIB)
    )
    desk = Desk.open(data_dir_of(options), store=options.database, limits=limits, retention=retention)
    try:
        yield desk
    finally:
        desk.close()


@contextmanager
def sweeping(desk: Desk) -> Iterator[None]:
    """Meanwhile remove, now and then, what is not kept any longer."""
    import logging

    over = threading.Event()

    def sweep() -> None:
        while True:
            try:
                desk.sweep()
            except InfiniteTalkError as error:
                logging.getLogger(__name__).warning("nothing was removed: %s", error.message)
            if over.wait(SWEEP):
                return

    thread = threading.Thread(target=sweep, name="sweep", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def keep_profile(desk: Desk, settings: Settings) -> None:
    """What the command line says of the model and the machine is the profile that orders without a name have."""
    from infinite_talk.jobs.desk import DEFAULT

    known = desk.store.profiles().get(DEFAULT)
    if settings not in (known, Settings()):
        desk.store.set_profile(DEFAULT, settings)


Value = TypeVar("Value")


def absolute(value: Value) -> Value:
    """The same value with its paths made absolute: workers are started elsewhere. Names of presets stay."""
    made: Any = value
    if isinstance(value, Path):
        made = value.absolute() if value.exists() else value
    elif isinstance(value, tuple):
        made = tuple(absolute(one) for one in value)
    elif is_dataclass(value) and not isinstance(value, type):
        made = replace(value, **{field.name: absolute(getattr(value, field.name)) for field in fields(value)})
    return made  # type: ignore[no-any-return]


def _slots(flags: Mapping[str, Any]) -> Sequence[Slot]:
    """Who will work. Another process is asked for the GPUs, which takes seconds; the page is loaded meanwhile."""
    from infinite_talk.jobs.supervisor import slots_here

    if flags["workers"] == 0:
        return ()
    with ThreadPoolExecutor(1) as thread:
        slots = thread.submit(slots_here, flags["workers"])
        if flags["page"]:
            import_module("infinite_talk.frontends.web.page")
        return slots.result()


def _add_page(app: FastAPI, desk: Desk, checker: Any, limits: Limits) -> None:  # noqa: ANN401 - jobs.checking.Checker
    from infinite_talk.frontends.web.options import PageOptions
    from infinite_talk.frontends.web.page import build, mount, uploads_of
    from infinite_talk.frontends.web.panels import Panels
    from infinite_talk.jobs.adviser import Adviser
    from infinite_talk.jobs.desk import DEFAULT

    options = PageOptions(
        uploads=uploads_of(desk.folder.root), checker=checker, max_upload=limits.upload_bytes
    )
    base = desk.store.profiles().get(DEFAULT, Settings())
    options = Panels(desk, Adviser(), base).added_to(options)
    mount(app, build(desk, options), options)


def _fetch() -> Callable[[str], Iterator[bytes]]:
    from infinite_talk.jobs.fetch import fetch

    def read(url: str) -> Iterator[bytes]:
        with fetch(url) as pieces:
            yield from pieces

    return read


def _announce(
    door: Door, line: socket.socket, desk: Desk, supervisor: Supervisor, run: Run, show: Show
) -> None:
    """Say where it is and where things lie."""
    port = line.getsockname()[1]
    name = f"[{door.host}]" if ":" in door.host.strip("[]") and not door.host.startswith("[") else door.host
    url = f"http://{name}:{port}"
    root = desk.folder.root
    run.result(
        {"ok": True, "url": url, "data_dir": str(root), "workers": supervisor.slots, "pid": os.getpid()},
        f"Infinite Talk: {url}",
    )
    show.note(f"jobs and videos lie in {root}; workers: {supervisor.slots}; Ctrl-C ends it")


def _run(app: FastAPI, line: socket.socket, stop: Stop) -> None:
    """Serve until a signal comes. Streams are ended, other answers may finish."""
    import uvicorn

    from infinite_talk.frontends.http.heads import PatientProtocol

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            app.state.changes.stop()
            super().handle_exit(sig, frame)

    config = uvicorn.Config(
        app,
        http=PatientProtocol,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="on",
        timeout_graceful_shutdown=GRACE,
    )
    if stop.exit_code is None:
        Server(config).run(sockets=[line])


def _ending(stop: Stop) -> int:
    return INTERRUPTED if stop.exit_code is None else stop.exit_code
