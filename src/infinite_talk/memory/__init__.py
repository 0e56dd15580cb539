"""Memory: what a run needs, and how it is made to fit. From outside: models and loops do not know this room."""

from infinite_talk.memory.planner import MemoryPlan, allocator_limit, plan_memory, replan
from infinite_talk.memory.published import full_sizes
from infinite_talk.memory.sizes import Encoder, ModelSizes
from infinite_talk.memory.stages import Stage
from infinite_talk.memory.work import Work

__all__ = [
    "Encoder",
    "MemoryPlan",
    "ModelSizes",
    "Stage",
    "Work",
    "allocator_limit",
    "full_sizes",
    "plan_memory",
    "replan",
]
