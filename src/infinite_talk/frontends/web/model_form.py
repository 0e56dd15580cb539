"""``ModelForm``: what stands in the fields of the tab Models, and the settings that it means."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from infinite_talk import (
    Attention,
    Compile,
    Device,
    Gemm,
    LoRA,
    Memory,
    ModelFiles,
    Precision,
    Quantization,
    Settings,
    UsageError,
)

LORAS = 4
"""Places for LoRAs on the page; a profile that has more is kept as it is and not edited here."""
PARTS = ("transformer", "adapter", "vae", "tiny_vae", "text", "vision", "speech")
"""Files that can be chosen one by one, as ``ModelFiles`` calls them."""
SWITCH = {"auto": None, "yes": True, "no": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelForm:
    """Values of the fields, in their order on the page. ``""`` and 0 leave a choice to the program."""

    model: str = ""
    """A folder with a model; ``""`` is the embedded one."""
    transformer: str = ""
    adapter: str = ""
    vae: str = ""
    tiny_vae: str = ""
    text: str = ""
    vision: str = ""
    speech: str = ""
    quantization: str = Quantization.DISABLED.value
    attention: str = Attention.AUTO.value
    precision: str = Precision.AUTO.value
    vae_precision: str = Precision.AUTO.value
    device: str = Device.AUTO.value
    lora_1: str = ""
    strength_1: str = "1"
    lora_2: str = ""
    strength_2: str = "1"
    lora_3: str = ""
    strength_3: str = "1"
    lora_4: str = ""
    strength_4: str = "1"
    merge: bool = True
    vram: float = 0.0
    blocks_to_swap: float = -1
    """-1: as many as needed."""
    prefetch_blocks: float = -1
    vae_tiling: str = "auto"
    keep_encoders: str = "auto"
    tf32: str = "auto"
    gemm: str = Gemm.AUTO.value
    fuse_qkv: bool = False
    contiguous: bool = False
    compile: bool = False
    compile_backend: str = "inductor"
    compile_mode: str = "default"
    compile_fullgraph: bool = False
    compile_dynamic: bool = False
    compile_cache: float = 64
    threads: float = 0
    crf: float = 18
    strict: bool = False

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """All fields in order."""
        return tuple(field.name for field in fields(cls))

    @classmethod
    def of(cls, values: tuple[Any, ...]) -> ModelForm:
        """From the fields' values in order; an emptied field counts as not filled in."""
        given = zip(fields(cls), values, strict=True)
        filled: dict[str, Any] = {f.name: f.default if value is None else value for f, value in given}
        return cls(**filled)


def settings_of(form: ModelForm, base: Settings, known: Collection[str]) -> Settings:
    """The settings that a form means.

    Args:
        form: filled in by somebody who may have sent anything.
        base: the server's own, for what the page does not show.
        known: paths that may be named: those of files that were found, and the server's own.

    Raises:
        UsageError: a value that is no choice, or a file that is not among the known ones.
    """
    for name in ("model", *PARTS, *(f"lora_{number}" for number in range(1, LORAS + 1))):
        if (path := getattr(form, name)) and path not in known:
            raise UsageError(
                f"{name}: {path} is not among the files that were found. Put it into a models folder and look again.",
                code="model_file_unknown",
            )
    files = {part: _path(getattr(form, part)) for part in PARTS if part != "transformer"}
    shards = () if not form.transformer else (Path(form.transformer),)
    return replace(
        base,
        model=_path(form.model),
        files=ModelFiles(transformer=shards, tokenizer=base.files.tokenizer, **files),
        loras=_loras(form),
        device=_choice(Device, "device", form.device),
        precision=_choice(Precision, "precision", form.precision),
        vae_precision=_choice(Precision, "vae_precision", form.vae_precision),
        quantization=_choice(Quantization, "quantization", form.quantization),
        attention=_choice(Attention, "attention", form.attention),
        tf32=_switch("tf32", form.tf32),
        gemm=_choice(Gemm, "gemm", form.gemm),
        fuse_qkv=form.fuse_qkv,
        contiguous=form.contiguous,
        compile=_compile(form),
        strict=form.strict,
        vram=_number("vram", form.vram, 0, 4096) or None,
        memory=Memory(
            blocks_to_swap=_count("blocks_to_swap", form.blocks_to_swap, 1000),
            prefetch_blocks=_count("prefetch_blocks", form.prefetch_blocks, 8),
            vae_tiling=_switch("vae_tiling", form.vae_tiling),
            keep_encoders=_switch("keep_encoders", form.keep_encoders),
        ),
        threads=int(_number("threads", form.threads, 0, 1024)) or None,
        crf=int(_number("crf", form.crf, 0, 51)),
    )


def model_form_of(settings: Settings) -> ModelForm:
    """The fields that bring settings back.

    Raises:
        UsageError: the page has no place for something of them.
    """
    files, memory, compiled = settings.files, settings.memory, settings.compile or Compile()
    _editable(settings)
    loras: dict[str, Any] = {}
    for number, lora in enumerate(settings.loras, 1):
        steps = lora.strength if isinstance(lora.strength, tuple) else (lora.strength,)
        loras |= {f"lora_{number}": str(lora.path), f"strength_{number}": ",".join(f"{s:g}" for s in steps)}
    parts = {part: _text(getattr(files, part)) for part in PARTS if part != "transformer"}
    return ModelForm(
        model=_text(settings.model),
        transformer=str(files.transformer[0]) if files.transformer else "",
        **parts,
        **loras,
        quantization=settings.quantization.value,
        attention=settings.attention.value,
        precision=settings.precision.value,
        vae_precision=settings.vae_precision.value,
        device=settings.device.value,
        merge=all(one.merge for one in settings.loras if not isinstance(one.strength, tuple)),
        vram=settings.vram or 0.0,
        blocks_to_swap=-1 if memory.blocks_to_swap is None else memory.blocks_to_swap,
        prefetch_blocks=-1 if memory.prefetch_blocks is None else memory.prefetch_blocks,
        vae_tiling=_word(memory.vae_tiling),
        keep_encoders=_word(memory.keep_encoders),
        tf32=_word(settings.tf32),
        gemm=settings.gemm.value,
        fuse_qkv=settings.fuse_qkv,
        contiguous=settings.contiguous,
        compile=settings.compile is not None,
        compile_backend=compiled.backend,
        compile_mode=compiled.mode,
        compile_fullgraph=compiled.fullgraph,
        compile_dynamic=compiled.dynamic,
        compile_cache=compiled.cache_size_limit,
        threads=settings.threads or 0,
        crf=settings.crf,
        strict=settings.strict,
    )


def _editable(settings: Settings) -> None:
    loras = settings.loras
    plain = {one.merge for one in loras if not isinstance(one.strength, tuple)}
    reasons = {
        f"more than {LORAS} LoRAs": len(loras) > LORAS,
        "a LoRA on some blocks or weights only": any(one.blocks is not None or one.without for one in loras),
        "LoRAs that are merged beside LoRAs that are not": len(plain) > 1,
        "a transformer in several files": len(settings.files.transformer) > 1,
    }
    if lacking := [reason for reason, there in reasons.items() if there]:
        raise UsageError(
            f"These settings have {', '.join(lacking)}, for which the page has no fields. They can be used as they "
            "are, and changed where they were made.",
            code="profile_not_editable",
        )


def _loras(form: ModelForm) -> tuple[LoRA, ...]:
    found = []
    for number in range(1, LORAS + 1):
        path, text = getattr(form, f"lora_{number}"), getattr(form, f"strength_{number}")
        if not path:
            continue
        try:
            steps = tuple(float(part) for part in str(text).replace("，", ",").split(","))
        except ValueError:
            raise UsageError(
                f"The strength {text!r} of {Path(path).name} is no number; give one, or one for each step: 1,1,0.5.",
                code="lora_strength",
            ) from None
        one = len(steps) == 1
        found.append(LoRA(path=Path(path), strength=steps[0] if one else steps, merge=form.merge and one))
    return tuple(found)


def _compile(form: ModelForm) -> Compile | None:
    if not form.compile:
        return None
    from pydantic import TypeAdapter, ValidationError

    asked = {
        "backend": form.compile_backend,
        "mode": form.compile_mode,
        "fullgraph": form.compile_fullgraph,
        "dynamic": form.compile_dynamic,
        "cache_size_limit": form.compile_cache,
    }
    try:
        return TypeAdapter(Compile).validate_python(asked)
    except ValidationError as error:
        names = ", ".join(str(one["loc"][0]) for one in error.errors())
        raise UsageError(f"compile: {names} is no choice.", code="usage") from None


def _choice(kind: Any, name: str, value: str) -> Any:  # noqa: ANN401 - an enumeration
    try:
        return kind(value)
    except ValueError:
        raise UsageError(f"{name} is {value!r}; choose one of {', '.join(kind)}.") from None


def _switch(name: str, value: str) -> bool | None:
    if value not in SWITCH:
        raise UsageError(f"{name} is {value!r}; choose one of {', '.join(SWITCH)}.")
    return SWITCH[value]


def _word(value: bool | None) -> str:
    return next(word for word, meaning in SWITCH.items() if meaning is value)


def _number(name: str, value: float, low: float, high: float) -> float:
    if not isinstance(value, (int, float)) or not low <= value <= high:
        raise UsageError(f"{name}={value} is out of range; expected {low:g} to {high:g}.")
    return value


def _count(name: str, value: float, most: int) -> int | None:
    """A number of blocks; below 0 it is left to the planner."""
    number = _number(name, value, -1, most)
    return None if number < 0 else int(number)


def _path(text: str) -> Path | None:
    return Path(text) if text else None


def _text(path: Path | None) -> str:
    return "" if path is None else str(path)


__all__ = ["LORAS", "PARTS", "SWITCH", "ModelForm", "model_form_of", "settings_of"]
