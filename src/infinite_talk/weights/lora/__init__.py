"""LoRA: small additions to the weights of the transformer, merged when they are loaded or computed beside them.

``open_lora`` reads what a file has to add, in any dialect; ``Merging`` adds it to weights on their way into a
model, ``attach`` to a model that is there. A key that fits nothing is an error, and then nothing has changed.
"""

from infinite_talk.weights.lora.adapter import Adapter, open_lora, read_adapter
from infinite_talk.weights.lora.attach import attach
from infinite_talk.weights.lora.merge import Merging, merge_lora

__all__ = ["Adapter", "Merging", "attach", "merge_lora", "open_lora", "read_adapter"]
