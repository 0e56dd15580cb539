"""``InfiniteTalkPipeline``: load models, generate a file; for programs that were written for such a pipeline."""

from infinite_talk.pipeline.options import PipelineOptions
from infinite_talk.pipeline.talking import InfiniteTalkPipeline

__all__ = ["InfiniteTalkPipeline", "PipelineOptions"]
