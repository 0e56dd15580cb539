"""Files of the user become a checked ``Source``; no other room opens them."""

from infinite_talk.inputs.jobfile import read_job_file
from infinite_talk.inputs.source import read_sound, read_source
from infinite_talk.inputs.validate import prompts_of, validate

__all__ = ["prompts_of", "read_job_file", "read_sound", "read_source", "validate"]
