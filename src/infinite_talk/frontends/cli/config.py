"""Options of a run: from flags, else ``INFINITE_TALK_*`` variables, else a TOML file."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import platformdirs
from pydantic import BeforeValidator, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from infinite_talk import (
    Attention,
    AudioLayout,
    Compat,
    Device,
    Distilled,
    Gemm,
    Precision,
    Quantization,
    UsageError,
)

PREFIX = "INFINITE_TALK_"
OTHER_VARIABLES = {"API_KEY", "CONFIG", "GOLDEN"}
"""Variables with our prefix that are no options: the server's key, the file itself, the folder of recorded cases."""


def _listed(value: object) -> object:
    """One entry is a list of one; a variable separates entries as ``PATH`` does."""
    if isinstance(value, str):
        return [part for part in value.split(os.pathsep) if part]
    return [value] if isinstance(value, Path) else value


Paths = Annotated[tuple[Path, ...], NoDecode, BeforeValidator(_listed)]


def _lora_list(value: object) -> object:
    """As ``_listed``, but a colon stands before a strength; a variable separates entries by ``;``."""
    return [part for part in value.split(";") if part] if isinstance(value, str) else value


LoRAs = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_lora_list)]


class StepCacheName(StrEnum):
    """What ``--step-cache`` takes."""

    NONE = "none"
    TEACACHE = "teacache"
    MAGCACHE = "magcache"
    EASYCACHE = "easycache"


class Options(BaseSettings):
    """What a file or a variable may set. ``None`` leaves the default of ``Request`` or ``Settings``.

    The names are those of the flags with ``_`` for ``-``; ``docs/cli.md`` explains each.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, extra="forbid")

    prompt: str | None = None
    negative_prompt: str | None = None
    size: str | None = None
    seed: int | None = None
    steps: int | None = None
    shift: float | None = None
    scheduler: str | None = None
    text_guidance: float | None = None
    audio_guidance: float | None = None
    apg: bool | None = None
    apg_momentum: float | None = None
    apg_norm: float | None = None
    step_cache: StepCacheName | None = None
    cache_threshold: float | None = None
    cache_longest: int | None = None
    cache_retention: float | None = None
    teacache: float | None = None
    distilled: Distilled | None = None
    window_frames: int | None = None
    motion_frames: int | None = None
    max_frames: int | None = None
    colour_strength: float | None = None
    fps: int | None = None
    scene_cuts: bool | None = None
    layout: AudioLayout | None = None
    audio_start: float | None = None
    audio_end: float | None = None
    compat: Compat | None = None
    model: Path | None = None
    models_dir: Paths | None = None
    transformer: Paths | None = None
    adapter: Path | None = None
    vae: Path | None = None
    tiny_vae: Path | None = None
    text_encoder: Path | None = None
    tokenizer: Path | None = None
    image_encoder: Path | None = None
    speech_encoder: Path | None = None
    lora: LoRAs | None = None
    merge_loras: bool | None = None
    device: Device | None = None
    precision: Precision | None = None
    vae_precision: Precision | None = None
    quantization: Quantization | None = None
    attention: Attention | None = None
    tf32: bool | None = None
    gemm: Gemm | None = None
    fuse_qkv: bool | None = None
    contiguous: bool | None = None
    compile: bool | None = None
    strict: bool | None = None
    vram: float | None = Field(default=None, gt=0)
    blocks_to_swap: int | None = Field(default=None, ge=0)
    prefetch_blocks: int | None = Field(default=None, ge=0, le=8)
    vae_tiling: bool | None = None
    threads: int | None = Field(default=None, ge=1, le=1024)
    max_audio_seconds: float | None = Field(default=None, gt=0)
    max_pixels: int | None = Field(default=None, ge=1)
    crf: int | None = Field(default=None, ge=0, le=51)
    data_dir: Path | None = None
    database: str | None = None

    def given(self) -> dict[str, Any]:
        """What was said anywhere, by option name."""
        return {name: value for name, value in self if value is not None}


def load_options(
    flags: Mapping[str, Any], *, config: Path | None = None, environ: Mapping[str, str] | None = None
) -> Options:
    """Merge flags over variables over the file.

    Args:
        flags: option name to value; ``None`` means not given.
        config: TOML file; default: ``INFINITE_TALK_CONFIG``, else the user's own file if there is one.
        environ: variables instead of the process's own, for the search of unknown names only.

    Raises:
        UsageError: an unknown key, a wrong type or range, an unreadable file; names the key.
    """
    variables = _variables(os.environ if environ is None else environ)
    path = config or _default_config(variables)
    said = {name: value for name, value in flags.items() if value is not None}
    file = _read_toml(path) if path else {}
    _refuse_unknown(said, "option")
    _refuse_unknown({n: v for n, v in variables.items() if n.upper() not in OTHER_VARIABLES}, "variable")
    _refuse_unknown(file, f"key in {path}")

    class Merged(Options):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
            file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, env_settings, InitSettingsSource(settings_cls, init_kwargs=file)

    try:
        return Merged(**said)
    except ValidationError as error:
        raise UsageError(_explain(error, said, variables, path), code="bad_option") from None


def parse_assignments(assignments: list[str]) -> dict[str, Any]:
    """``["steps=8", "prompt=hello"]`` as a mapping; values are TOML where that is valid, else text."""
    values: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise UsageError(f"--set wants name=value, got {assignment!r}; for example --set steps=8")
        try:
            values[name.strip().replace("-", "_")] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            values[name.strip().replace("-", "_")] = text
    return values


def _variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Our variables by lower-case option name."""
    return {key[len(PREFIX) :].lower(): value for key, value in environ.items() if key.startswith(PREFIX)}


def _default_config(variables: Mapping[str, str]) -> Path | None:
    if "config" in variables:
        return Path(variables["config"]).expanduser()
    own = platformdirs.user_config_path("infinite_talk") / "config.toml"
    return own if own.is_file() else None


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            values = tomllib.load(file)
    except OSError as error:
        raise UsageError(f"The configuration file {path} cannot be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"The configuration file {path} is not valid TOML: {error}.") from None
    for name in PATHS & values.keys():
        named = values[name]
        values[name] = [_beside(path, n) for n in named] if isinstance(named, list) else _beside(path, named)
    return values


PATHS = {
    *("model", "models_dir", "transformer", "adapter", "vae", "tiny_vae", "text_encoder"),
    *("tokenizer", "image_encoder", "speech_encoder", "data_dir"),
}
"""Options that name files."""


def _beside(file: Path, named: object) -> object:
    """A path in a file is meant relative to it; a model that is not there may be the name of a preset."""
    if not isinstance(named, str):
        return named
    path = file.parent / Path(named).expanduser()
    return path if path.exists() or os.sep in named else Path(named)


def _refuse_unknown(values: Mapping[str, Any], kind: str) -> None:
    for name in values:
        if name not in Options.model_fields:
            near = difflib.get_close_matches(name, Options.model_fields, n=1)
            shown = PREFIX + name.upper() if kind == "variable" else name
            hint = (
                f" Did you mean {PREFIX + near[0].upper() if kind == 'variable' else near[0]}?"
                if near
                else ""
            )
            raise UsageError(f"Unknown {kind}: {shown}.{hint}", code="unknown_option")


def _explain(
    error: ValidationError, said: Mapping[str, Any], variables: Mapping[str, str], path: Path | None
) -> str:
    """The first wrong value with its name, where it was said, and what was expected."""
    first = error.errors()[0]
    name = str(first["loc"][0])
    if name in said:
        where = f"--{name.replace('_', '-')}"
    elif name in variables:
        where = PREFIX + name.upper()
    else:
        where = f"{name} in {path}"
    expected = first["msg"][0].lower() + first["msg"][1:]
    return f"{where} is {first['input']!r}: {expected}."
