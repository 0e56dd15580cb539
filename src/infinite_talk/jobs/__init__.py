"""Jobs: videos that are wanted, kept on disk until they are made, whatever happens in between."""

from infinite_talk.jobs.types import (
    Checked,
    DataFolder,
    Job,
    JobError,
    JobProgress,
    Lease,
    Order,
    Retention,
    State,
    StoredFile,
    Wish,
)

__all__ = [
    "Checked",
    "DataFolder",
    "Job",
    "JobError",
    "JobProgress",
    "Lease",
    "Order",
    "Retention",
    "State",
    "StoredFile",
    "Wish",
]
