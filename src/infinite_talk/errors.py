"""The error tree. Every error a user can cause says what came, what was expected and what to do.

InfiniteTalkError
├── UsageError          exit 2    wrong option or combination of options
├── InputError          exit 3    an image, video, audio, mask or text that cannot be used
├── CheckpointError     exit 4    a model file is missing, corrupt or another model's
├── OutOfMemoryError    exit 5    the machine's memory does not hold the run
├── NoSpaceError        exit 6    disk full, folder not writable, file exists
├── TakeError           exit 1    the folder of a growing video cannot be used (busy, another recipe)
├── CapabilityError     exit 2    this machine cannot run what was chosen
├── NumericalError      exit 1    the model produced NaN or infinity
├── JobActionError      exit 2    a job that is not there, or not in a state for what was asked
├── LimitError          exit 2    more than this service accepts: queue, length, size
├── StoreError          exit 1    the store of jobs cannot be used (busy, gone, newer, damaged, a second server)
└── Cancelled           exit 130  stopped on request; what was finished is kept
"""

from __future__ import annotations

from typing import ClassVar


class InfiniteTalkError(Exception):
    """Base of all errors of this package.

    Args:
        message: one or two sentences: what came, what was expected, what to do.
        code: short machine-readable name such as ``"audio_empty"``; shown by ``--json`` and the HTTP API.
    """

    exit_code: ClassVar[int] = 1
    default_code: ClassVar[str] = "failed"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code


class UsageError(InfiniteTalkError):
    """An option or a combination of options that has no meaning."""

    exit_code = 2
    default_code = "usage"


class InputError(InfiniteTalkError):
    """Media or text that cannot be used; raised before any model loads."""

    exit_code = 3
    default_code = "bad_input"


class CheckpointError(InfiniteTalkError):
    """A model file that is missing, damaged, or not of the expected model."""

    exit_code = 4
    default_code = "checkpoint"


class OutOfMemoryError(InfiniteTalkError):
    """The run does not fit the memory of this machine."""

    exit_code = 5
    default_code = "out_of_memory"


class NoSpaceError(InfiniteTalkError):
    """The output cannot be written: disk full, folder not writable, or the file is already there."""

    exit_code = 6
    default_code = "no_space"


class TakeError(InfiniteTalkError):
    """The folder in which a video grows is in use by another process or belongs to another request."""

    default_code = "take"


class CapabilityError(InfiniteTalkError):
    """What was chosen cannot run on this machine; the message says what it needs."""

    exit_code = 2
    default_code = "capability"


class NumericalError(InfiniteTalkError):
    """A denoising step produced NaN or infinity."""

    default_code = "numerical_failure"


class JobActionError(InfiniteTalkError):
    """Something was asked of a job that cannot be done.

    Codes: ``job_not_found``; ``job_state`` (not in this state); ``key_reused`` (an idempotency key came with another
    order); ``lease_lost`` (a worker speaks of a job that is no longer its own).
    """

    exit_code = 2
    default_code = "job_state"


class LimitError(InfiniteTalkError):
    """More than this service accepts.

    Codes: ``queue_full``, ``video_too_long``, ``video_too_large``, ``upload_too_large``.
    """

    exit_code = 2
    default_code = "limit"


class StoreError(InfiniteTalkError):
    """The store of jobs cannot be used.

    Codes: ``store_busy`` (try again later), ``store_missing``, ``store_gone`` (deleted under a running program),
    ``store_newer``, ``store_damaged``, ``store_unreachable``, ``store_in_use`` (a second server on one folder).
    """

    default_code = "store"


class Cancelled(InfiniteTalkError):  # noqa: N818 - a decision of the user, not a failure
    """The run was stopped on request. Finished windows are kept."""

    exit_code = 130
    default_code = "cancelled"
