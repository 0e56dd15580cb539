"""Asking the hub about a file, patiently, and saying what is wrong when it refuses."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from time import sleep
from typing import Any, TypeVar

from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

from infinite_talk.errors import CheckpointError, NoSpaceError
from infinite_talk.weights.hub.files import RemoteFile

R = TypeVar("R")
Waiting = Callable[[str], None]
"""Hears why it takes longer, at least once a second, and may raise to stop."""
DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NOT_WRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS}
NETWORK: tuple[type[Exception], ...] = (OSError, *HfHubHTTPError.__bases__)
"""What fails on the way: the errors of the transport that the hub library uses, whichever it is."""
_REFUSED, _TOO_MANY = (401, 403, 404), 429
_LONGEST_WAIT = 600.0  # seconds; a hub that asks for more is not waited for


@dataclass(frozen=True, slots=True)
class Hub:
    """How to reach the hub. ``None``: as ``huggingface_hub`` takes it from ``HF_ENDPOINT`` and ``HF_TOKEN``."""

    endpoint: str | None = None
    token: str | None = None
    timeout: float = 10.0
    """Seconds without an answer, or without a byte, after which a connection counts as stalled."""
    attempts: int = 5
    """How often a request is tried in all while nothing new arrives."""
    pause: float = 1.0
    """Seconds before the second attempt; doubled before each later one."""

    @property
    def address(self) -> str:
        """Of its pages."""
        return (self.endpoint or constants.ENDPOINT).rstrip("/")

    @property
    def offline(self) -> bool:
        """Whether ``HF_HUB_OFFLINE`` forbids to ask."""
        return bool(constants.HF_HUB_OFFLINE)


@dataclass(frozen=True, slots=True)
class Remote:
    """A file as the hub has it now."""

    file: RemoteFile
    spelling: str
    commit: str
    checksum: str
    size: int
    url: str
    """At the hub, which redirects to its storage: addresses there are good for an hour only."""


def ask(file: RemoteFile, hub: Hub, waiting: Waiting) -> Remote:
    """Size, checksum and address of a file under the first spelling that is there.

    Raises:
        CheckpointError: it is not there, needs a login, or the hub cannot be reached.
    """
    for spelling in file.spellings:
        try:
            return patiently(lambda name=spelling: _ask(file, name, hub), file, hub, waiting)  # type: ignore[misc]
        except EntryNotFoundError:
            continue
    tried = " or ".join(file.spellings)
    raise CheckpointError(
        f"{file.repo} has no file {tried} (revision {file.revision}): it was renamed or taken away. Look at "
        f"{hub.address}/{file.repo}/tree/{file.revision}, and give the file with its own option.",
        code="not_found",
    )


def patiently(
    request: Callable[[], R],
    file: RemoteFile,
    hub: Hub,
    waiting: Waiting,
    done: Callable[[], int] | None = None,
) -> R:
    """Carry out a request; repeat it after a pause when the network or the hub fails.

    Args:
        done: bytes that have arrived so far; when there are more than before, attempts are counted anew.

    Raises:
        CheckpointError: refused, or failed for the last time.
        NoSpaceError: the disk is full or not writable.
        EntryNotFoundError: the hub says that it has no such file.
    """
    pause, failures, before = hub.pause, 0, done() if done else 0
    while True:
        try:
            return request()
        except NETWORK as error:
            problem = _problem(error, file, hub)
            if problem.final:
                raise problem.error from error
            if done and (now := done()) > before:
                before, failures, pause = now, 0, hub.pause
            failures += 1
            seconds = pause if problem.wait is None else problem.wait
            if failures >= hub.attempts or seconds > _LONGEST_WAIT:
                raise problem.error from error
        wait(seconds, f"{problem.short}, trying again", waiting)
        pause *= 2


def wait(seconds: float, why: str, waiting: Waiting) -> None:
    """Sleep, saying so every second."""
    left = seconds
    while left > 0:
        waiting(f"{why} in {left:.0f} s" if left >= 1 else why)
        sleep(min(1.0, left))
        left -= 1.0


def _ask(file: RemoteFile, spelling: str, hub: Hub) -> Remote:
    url = hf_hub_url(file.repo, spelling, revision=file.revision, endpoint=hub.endpoint)
    known: Any = get_hf_file_metadata(url, token=hub.token, timeout=hub.timeout)
    if known.commit_hash is None or known.etag is None or known.size is None:
        raise CheckpointError(
            f"{hub.address} does not answer like a Hugging Face hub (no commit, checksum or size for {spelling}). "
            "Check HF_ENDPOINT and the proxy.",
            code="hub_unknown",
        )
    fixed = hf_hub_url(file.repo, spelling, revision=known.commit_hash, endpoint=hub.endpoint)
    return Remote(file, spelling, known.commit_hash, known.etag, known.size, fixed)


@dataclass(frozen=True, slots=True)
class _Problem:
    """What a failure means."""

    error: CheckpointError | NoSpaceError
    short: str
    final: bool = False
    wait: float | None = None
    """Seconds that the hub asked for."""


def _problem(error: Any, file: RemoteFile, hub: Hub) -> _Problem:  # noqa: ANN401 - of two libraries
    if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
        raise error
    if not isinstance(error, HfHubHTTPError) or isinstance(error, LocalEntryNotFoundError):
        if (number := getattr(error, "errno", None)) in DISK_FULL | _NOT_WRITABLE:
            return _Problem(no_space(error, number in DISK_FULL), "the disk", final=True)
        unreachable = CheckpointError(
            f"{file.path} could not be downloaded from {hub.address}: {_words(error)}. What has arrived is kept; "
            "run the same command again, or set HF_ENDPOINT to a mirror.",
            code="hub_unreachable",
        )
        return _Problem(unreachable, f"connection lost ({_words(error)})")
    status = error.response.status_code
    if status in _REFUSED:
        return _Problem(_refused(status, file, hub), "refused", final=True)
    says = "asks to wait (too many requests)" if status == _TOO_MANY else f"failed with status {status}"
    busy = CheckpointError(
        f"{hub.address} {says} for {file.path}. What has arrived is kept; run the same command again later.",
        code="hub_busy",
    )
    passing = status == _TOO_MANY or status >= 500 or status == 408
    return _Problem(busy, f"the hub {says}", final=not passing, wait=_seconds(error.response.headers))


def no_space(error: OSError, full: bool = True) -> NoSpaceError:
    """The error for a disk that takes no more."""
    where = f" ({error.filename})" if error.filename else ""
    if not full:
        return NoSpaceError(
            f"The download cannot be written{where}: {error.strerror}. Choose another folder with --to."
        )
    return NoSpaceError(
        f"The disk is full{where}: {error.strerror}. What has arrived is kept; free some space, or choose another "
        "folder with --to, and run the same command again.",
        code="no_space",
    )


def _refused(status: int, file: RemoteFile, hub: Hub) -> CheckpointError:
    return CheckpointError(
        f"{hub.address} refuses {file.repo} at {file.revision} (status {status}): it needs a login or the "
        f"acceptance of its licence, or it was renamed or taken away. Accept the terms at {hub.address}/"
        f"{file.repo} and set HF_TOKEN to a token that may read it.",
        code="hub_login",
    )


def _seconds(headers: Any) -> float | None:  # noqa: ANN401
    text = headers.get("Retry-After", "")
    return float(text) if text.isdigit() else None


def _words(error: BaseException) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
