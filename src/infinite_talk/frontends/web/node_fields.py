"""Fields of the tab Create for what only the nodes can do (``NodeOptions``), and what they mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import gradio as gr
from pydantic import TypeAdapter, ValidationError

from infinite_talk import UsageError
from infinite_talk.frontends.web.options import More
from infinite_talk.frontends.web.texts import Texts
from infinite_talk.jobs.node_options import (
    ColourMethod,
    Condition,
    Interpolation,
    Method,
    NodeOptions,
    Resize,
)

_OPTIONS = TypeAdapter(NodeOptions)
METHODS, CONDITIONS, INTERPOLATIONS, COLOURS = map(get_args, (Method, Condition, Interpolation, ColourMethod))


def node_fields(texts: Texts) -> More:
    """For ``PageOptions.more``."""
    return More(lambda: build(texts), lambda values: {"options": options_of(values)})


def build(texts: Texts) -> dict[str, Any]:
    """Make the components, by name. Called within the options of the tab."""
    label, fields = texts.label, dict[str, Any]()

    def choice(name: str, values: tuple[str, ...], **more: Any) -> None:  # noqa: ANN401 - of the component
        fields[name] = gr.Dropdown(
            more.pop("choices", list(values)),
            label=label(f"more_{name}"),
            min_width=150,
            elem_id=f"more_{name}",
            **more,
        )

    with gr.Accordion(label("more"), open=False, elem_id="more"):
        gr.Markdown(label("more_help"))
        with gr.Row():
            fields["fps"] = _number(texts, "fps", 25, 1, 120)
            fields["audio_frames"] = _number(texts, "audio_frames", 0, 0, 10_000)
            fields["audio_scale"] = _number(texts, "audio_scale", 1, 0, 10)
        fields["normalize_loudness"] = gr.Checkbox(
            True, label=label("more_normalize_loudness"), elem_id="more_normalize_loudness"
        )
        fields["separate_vocals"] = gr.Checkbox(
            False, label=label("more_separate_vocals"), elem_id="more_separate_vocals"
        )
        with gr.Row():
            own = (label("more_colour_own"), "")
            choice("colour_method", (), choices=[own, *((name, name) for name in COLOURS)], value="")
            cut = (label("more_resize_cut"), "")
            choice("resize", (), choices=[cut, *((name, name) for name in METHODS)], value="")
            choice("interpolation", INTERPOLATIONS, value="lanczos")
            choice("condition", CONDITIONS, value="always")
    return fields


def options_of(values: Mapping[str, Any]) -> NodeOptions:
    """What the fields say; an emptied one counts as not filled in.

    Raises:
        UsageError: a value that is no choice.
    """
    given = {name: value for name, value in values.items() if value not in (None, "")}
    method = given.pop("resize", None)
    how = {name: given.pop(name) for name in ("interpolation", "condition") if name in given}
    if not given.get("audio_frames"):
        given.pop("audio_frames", None)
    if method is not None:
        given["resize"] = {"method": method, **how}
    try:
        return _OPTIONS.validate_python(given)
    except ValidationError as error:
        names = ", ".join(sorted({str(one["loc"][0]) for one in error.errors()}))
        raise UsageError(f"{names} has a value that is no choice; take one of the list.") from None


def values_of(options: NodeOptions) -> dict[str, Any]:
    """The inverse of :func:`options_of`."""
    resize = options.resize
    return {
        "fps": options.fps,
        "audio_frames": options.audio_frames or 0,
        "audio_scale": options.audio_scale,
        "normalize_loudness": options.normalize_loudness,
        "separate_vocals": options.separate_vocals,
        "colour_method": options.colour_method or "",
        "resize": "" if resize is None else resize.method,
        "interpolation": (resize or Resize()).interpolation,
        "condition": (resize or Resize()).condition,
    }


def _number(texts: Texts, name: str, value: float, low: float, high: float) -> gr.Number:
    return gr.Number(
        value,
        label=texts.label(f"more_{name}"),
        info=texts.label(f"more_{name}_help"),
        minimum=low,
        maximum=high,
        min_width=150,
        elem_id=f"more_{name}",
    )


__all__ = ["node_fields", "options_of", "values_of"]
