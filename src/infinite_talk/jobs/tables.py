"""The tables of the store. Orders and progress are JSON text; times are seconds since 1970, for people only."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Column, Dialect, Float, Index, Integer, MetaData, String, Table, Text
from sqlalchemy.types import TypeDecorator

TABLES = MetaData()


class Word(TypeDecorator[str]):
    """One of the words of an enumeration, stored as plain text whatever the driver makes of enumerations."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ANN401, ARG002
        """To the database."""
        return None if value is None else str(value)


META = Table(
    "infinite_talk_meta",
    TABLES,
    Column("name", String(40), primary_key=True),  # "schema", "change"
    Column("value", BigInteger, nullable=False),
)

JOBS = Table(
    "infinite_talk_jobs",
    TABLES,
    Column(
        "number", BigInteger, primary_key=True, autoincrement=False
    ),  # age: the counter when it was accepted
    Column("id", String(80), nullable=False, unique=True),
    Column("idempotency_key", String(300), unique=True),
    Column("digest", String(64), nullable=False),  # of the order
    Column("state", Word(12), nullable=False),
    Column("wish", Word(12)),
    Column("priority", Integer, nullable=False),
    Column("rank", BigInteger, nullable=False),  # place among equal priorities; gaps leave room to move a job
    Column("order_json", Text, nullable=False),
    Column("progress_json", Text, nullable=False),
    Column("percent", Float, nullable=False),
    Column("windows_done", Integer, nullable=False),  # most that were ever reported
    Column("created", Float, nullable=False),
    Column("started", Float),
    Column("finished", Float),
    Column("attempts", Integer, nullable=False),
    Column("crashes", Integer, nullable=False),  # of its worker, since it last finished a window
    Column("interruptions", Integer, nullable=False),  # worker gone without anybody seeing why; likewise
    Column("windows_then", Integer, nullable=False),  # windows done at the last crash or interruption
    Column("error_code", String(60)),
    Column("error_message", Text),
    Column("output", Text),
    Column("worker", String(120)),
    Column("host", String(200)),
    Column("token", String(32)),  # of the lease; only its owner may speak of the job
    Column("beat", BigInteger, nullable=False),  # rises while the worker lives
    Column("changed", BigInteger, nullable=False),  # the counter when the job last changed
    Index("infinite_talk_queue", "state", "priority", "rank"),
)

PROFILES = Table(
    "infinite_talk_profiles",
    TABLES,
    Column("name", String(80), primary_key=True),
    Column("settings_json", Text, nullable=False),
)
