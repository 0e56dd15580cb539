"""Prompts become ``text_embeds``: ``prompt_embeds`` and ``negative_prompt_embeds``, lists of ``(L, D)`` tensors.

``a | b | c`` are prompts of successive windows. ``[1] ... [2] ...`` are shots (EchoShot). ``(words:1.2)`` loses its
brackets, and the features of its whole prompt are multiplied by 1.2; several weights multiply each other, as in the
node pack. Texts are encoded one by one, so that fifty prompts take the memory of one.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from infinite_talk.errors import CapabilityError, InputError, UsageError
from infinite_talk.nodes.declare import CATEGORY, Inputs, checked, choice, flag, link, listed, words
from infinite_talk.nodes.encoders import LoadWanVideoT5TextEncoder
from infinite_talk.nodes.handles import Loadable, TextModel, WanModel, say
from infinite_talk.nodes.host import file_names, host
from infinite_talk.weights.model import fingerprint

WEIGHT = re.compile(r"\(([^()]*):\s*(\d+(?:\.\d+)?)\s*\)")
"""Words with a weight."""
SHOT = re.compile(r"\[\d+\]")
MOST_SHOTS = 6
TextEmbeds = dict[str, Any]


class WanVideoTextEncode:
    """Both prompts, encoded."""

    RETURN_TYPES: ClassVar = ("WANVIDEOTEXTEMBEDS",)
    RETURN_NAMES: ClassVar = ("text_embeds",)
    FUNCTION = "process"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802 - ComfyUI's name
        return {
            "required": {
                "positive_prompt": words("", multiline=True),
                "negative_prompt": words("", multiline=True),
            },
            "optional": _encoder_inputs(),
        }

    @checked()
    def process(
        self,
        positive_prompt: str,
        negative_prompt: str,
        t5: TextModel | None = None,
        force_offload: bool = True,
        model_to_offload: WanModel | None = None,
        use_disk_cache: bool = False,
        device: str = "gpu",
    ) -> tuple[TextEmbeds]:
        """Encode them, or take them from the disk.

        Raises:
            UsageError: no text encoder is connected.
            InputError: more shots than EchoShot knows.
        """
        prompts, shots = split_prompts(positive_prompt)
        if shots:
            say(
                "Shots become prompts of successive windows: EchoShot's own positions belong to its own model."
            )
        with_weights = [weighted(prompt) for prompt in prompts]
        encoder = _Encoder(_needed(t5), use_disk_cache, device, model_to_offload)
        positive = [encoder.encode(text) * weight for text, weight in with_weights]
        negative = [encoder.encode(negative_prompt)]
        encoder.done(force_offload)
        return ({"prompt_embeds": positive, "negative_prompt_embeds": negative, "echoshot": shots},)


class WanVideoTextEncodeCached:
    """Both prompts by the name of the text encoder, which is read only for texts that are not on the disk."""

    RETURN_TYPES: ClassVar = ("WANVIDEOTEXTEMBEDS", "WANVIDEOTEXTEMBEDS", "STRING")
    RETURN_NAMES: ClassVar = ("text_embeds", "negative_text_embeds", "positive_prompt")
    FUNCTION = "process"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {
            "required": {
                "model_name": choice(file_names("text_encoders")),
                "precision": choice(("fp32", "bf16"), "bf16"),
                "positive_prompt": words("", multiline=True),
                "negative_prompt": words("", multiline=True),
                "quantization": choice(("disabled", "fp8_e4m3fn"), "disabled"),
                "use_disk_cache": flag(True),
                "device": choice(("gpu", "cpu"), "gpu"),
            },
            "optional": {"extender_args": link("WANVIDEOPROMPTEXTENDER_ARGS")},
        }

    @checked()
    def process(
        self,
        model_name: str,
        precision: str,
        positive_prompt: str,
        negative_prompt: str,
        quantization: str = "disabled",
        use_disk_cache: bool = True,
        device: str = "gpu",
        extender_args: object = None,
    ) -> tuple[TextEmbeds, TextEmbeds, str]:
        """Both, the negative one as a positive of its own (for NAG), and the prompt that was encoded.

        Raises:
            CheckpointError: of the text encoder.
            CapabilityError: a language model is to rewrite the prompt.
        """
        if extender_args is not None:
            raise CapabilityError(
                "Prompts are not rewritten by a language model here; leave extender_args unconnected and write the "
                "prompt out."
            )
        (t5,) = LoadWanVideoT5TextEncoder().loadmodel(model_name, precision, quantization=quantization)
        (embeds,) = WanVideoTextEncode().process(
            positive_prompt, negative_prompt, t5, use_disk_cache=use_disk_cache, device=device
        )
        return embeds, {"prompt_embeds": embeds["negative_prompt_embeds"]}, positive_prompt


class WanVideoTextEncodeSingle:
    """One prompt, encoded."""

    RETURN_TYPES: ClassVar = ("WANVIDEOTEXTEMBEDS",)
    RETURN_NAMES: ClassVar = ("text_embeds",)
    FUNCTION = "process"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {"required": {"prompt": words("", multiline=True)}, "optional": _encoder_inputs()}

    @checked()
    def process(
        self,
        prompt: str,
        t5: TextModel | None = None,
        force_offload: bool = True,
        model_to_offload: WanModel | None = None,
        use_disk_cache: bool = False,
        device: str = "gpu",
    ) -> tuple[TextEmbeds]:
        """Encode it as it is written, or take it from the disk.

        Raises:
            UsageError: no text encoder is connected.
        """
        encoder = _Encoder(_needed(t5), use_disk_cache, device, model_to_offload)
        found = encoder.encode(prompt)
        encoder.done(force_offload)
        return ({"prompt_embeds": [found]},)


class WanVideoTextEmbedBridge:
    """What ComfyUI's own text encoder made, for the sampler."""

    RETURN_TYPES: ClassVar = ("WANVIDEOTEXTEMBEDS",)
    RETURN_NAMES: ClassVar = ("text_embeds",)
    FUNCTION = "process"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {
            "required": {"positive": link("CONDITIONING")},
            "optional": {"negative": link("CONDITIONING")},
        }

    @checked()
    def process(
        self, positive: list[list[Any]], negative: list[list[Any]] | None = None
    ) -> tuple[TextEmbeds]:
        """The features of each entry.

        Raises:
            InputError: an entry is no conditioning.
        """
        return (
            {
                "prompt_embeds": _of_conditioning("positive", positive),
                "negative_prompt_embeds": [] if negative is None else _of_conditioning("negative", negative),
                "echoshot": False,
            },
        )


def split_prompts(prompt: str) -> tuple[list[str], bool]:
    """The prompts of successive windows, or of shots; and whether they are shots.

    Raises:
        InputError: more shots than EchoShot knows.
    """
    if SHOT.match(prompt.strip()):
        shots = [shot.strip() for shot in SHOT.split(prompt) if shot.strip()]
        if len(shots) > MOST_SHOTS:
            raise InputError(f"The prompt has {len(shots)} shots; EchoShot knows 2 to {MOST_SHOTS}.")
        return shots, len(shots) > 1
    return [part.strip() for part in prompt.split("|")], False


def weighted(prompt: str) -> tuple[str, float]:
    """The prompt without the brackets of its weights, and their product."""
    weights = [float(found.group(2)) for found in WEIGHT.finditer(prompt)]
    return WEIGHT.sub(lambda found: found.group(1), prompt), math.prod(weights)


def _encoder_inputs() -> dict[str, Any]:
    return {
        "t5": link("WANTEXTENCODER"),
        "force_offload": flag(True),
        "model_to_offload": link("WANVIDEOMODEL"),
        "use_disk_cache": flag(False),
        "device": choice(("gpu", "cpu"), "gpu"),
    }


def _needed(t5: object) -> TextModel:
    if isinstance(t5, Loadable):
        return t5
    came = "no text encoder is connected" if t5 is None else f"t5 is a {type(t5).__name__}"
    raise UsageError(
        f"The prompt cannot be encoded: {came}. Connect LoadWanVideoT5TextEncoder; texts on the disk are kept by model "
        "and precision, so that they need it too."
    )


class _Encoder:
    """Encodes texts one by one; the model is read for the first text that is not on the disk."""

    def __init__(self, t5: TextModel, cached: bool, device: str, beside: WanModel | None) -> None:
        self._t5 = t5.on(torch.device("cpu")) if device == "cpu" and t5.device.type != "cpu" else t5
        self._given, self._beside = t5, beside
        self._folder = _cache_folder() if cached else None
        self._key = _model_key(t5) if self._folder else ""

    def encode(self, text: str) -> torch.Tensor:
        """``(L, D)`` on the CPU, in the precision of the encoder."""
        if self._folder is None:
            return self._ask(text)
        place = self._folder / f"{text_key(text, self._key)}.safetensors"
        return _kept(place, lambda: self._ask(text))

    def done(self, offload: bool) -> None:
        """Let the model go if it is to."""
        if offload or self._t5 is not self._given:
            self._t5.release()

    @torch.inference_mode()
    def _ask(self, text: str) -> torch.Tensor:
        if self._beside is not None:
            self._beside.release()
        with self._t5.at_hand() as model:
            for note in model.notes([text]):
                say(note)
            return model.encode([text])[0].cpu().clone()


def text_key(text: str, model: str) -> str:
    """The name of an encoded text on the disk: of its words, the model's files, and the precision."""
    return hashlib.sha256(f"{model}\n{text}".encode()).hexdigest()


def _model_key(t5: TextModel) -> str:
    return f"{fingerprint(t5.opened.files)} {t5.dtype} {t5.kept}"


def _cache_folder() -> Path | None:
    folder = host().text_cache
    if folder is None:
        say("Texts are not kept on the disk: whoever runs the nodes has named no folder for them.")
        return None
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _kept(place: Path, make: Callable[[], torch.Tensor]) -> torch.Tensor:
    """The tensor of a file; a file that is not there or damaged is written anew."""
    if place.is_file():
        try:
            found: torch.Tensor = load_file(place)["text"]
            return found
        except (SafetensorError, KeyError, OSError) as error:
            say(f"{place.name} is damaged ({error}) and is written again.")
    made = make()
    draft = place.with_suffix(f".{os.getpid()}.part")
    save_file({"text": made.contiguous()}, draft)
    draft.replace(place)
    return made


def _of_conditioning(what: str, entries: list[list[Any]]) -> list[torch.Tensor]:
    """The features ``(L, D)`` of each entry of a CONDITIONING, and of each text in it."""
    try:
        tensors = [entry[0] for entry in entries]
        if not tensors or any(tensor.dim() != 3 for tensor in tensors):
            raise TypeError
    except (TypeError, IndexError, KeyError, AttributeError):
        kinds = listed({type(entry).__name__ for entry in entries}) if isinstance(entries, list) else entries
        raise InputError(
            f"{what} is no CONDITIONING (found: {kinds}); connect ComfyUI's CLIPTextEncode with a UMT5 encoder."
        ) from None
    return [text.cpu() for tensor in tensors for text in tensor]
