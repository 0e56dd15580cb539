"""Flags of the commands around the service; the form of a row, and all others, are in ``flags.py``."""

from __future__ import annotations

from pathlib import Path

from infinite_talk.jobs import State

from .flags import SERVICE, Flag

STORE = (
    Flag(
        "data_dir",
        Path,
        SERVICE,
        "Folder with the jobs of a service and their videos; default the user's own.",
        "--data-dir",
        "FOLDER",
    ),
    Flag(
        "database",
        str,
        SERVICE,
        "Store of jobs, postgresql://user@host/name; default the SQLite file in the data folder.",
        "--database",
        "URL",
    ),
)
JOB_STATES = Flag(
    "state", list[State], SERVICE, "Only jobs in this state. May be repeated.", "--state", "STATE"
)
JOB_LIMIT = Flag(
    "limit", int, SERVICE, "At most so many, the newest ones. Default 50.", "--limit", default=50
)
JOB_BEFORE = Flag("before", str, SERVICE, "The job to place it before; default: the end.", "--before", "JOB")
WORKERS = Flag(
    "workers", int, SERVICE, "Worker processes; default one per GPU, or one for the CPU.", "--workers"
)
SERVE = (
    Flag(
        "host",
        str,
        SERVICE,
        "Address to listen on; another than this machine's own needs an API key.",
        "--host",
        default="127.0.0.1",
    ),
    Flag("port", int, SERVICE, "Port; 0 takes a free one. Default 8000.", "--port", default=8000),
    Flag(
        "api_key_file",
        Path,
        SERVICE,
        "File with the key that callers bring; or set INFINITE_TALK_API_KEY.",
        "--api-key-file",
        "FILE",
    ),
    Flag(
        "allow_host",
        list[str],
        SERVICE,
        "Another name under which the server answers. May be repeated.",
        "--allow-host",
        "NAME",
    ),
    Flag(
        "allow_origin",
        list[str],
        SERVICE,
        "Another site whose pages may call. May be repeated.",
        "--allow-origin",
        "URL",
    ),
    Flag(
        "allow_urls",
        bool,
        SERVICE,
        "Fetch media from public addresses that callers give.",
        "--allow-urls",
        default=False,
    ),
    WORKERS,
    Flag(
        "page",
        bool,
        SERVICE,
        "With the web page (default), or for programs only.",
        "--page/--no-page",
        default=True,
    ),
    Flag("max_queue", int, SERVICE, "Jobs that wait, run or are paused. Default 100.", "--max-queue"),
    Flag("max_upload", float, SERVICE, "Media of one job together. Default 2.", "--max-upload", "GIB"),
    Flag("max_seconds", float, SERVICE, "Longest video. Default 3600.", "--max-seconds", "SECONDS"),
    Flag(
        "keep_days",
        float,
        SERVICE,
        "Remove jobs so long after their end; default never.",
        "--keep-days",
        "DAYS",
    ),
    Flag(
        "keep_gib",
        float,
        SERVICE,
        "Remove the oldest ended jobs beyond this; default never.",
        "--keep-gib",
        "GIB",
    ),
)
