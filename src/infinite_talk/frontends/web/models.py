"""The tab Models: files, precisions, kernels, LoRAs and memory as named profiles; what really runs, and why."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import gradio as gr

from infinite_talk import (
    Attention,
    Device,
    Gemm,
    InfiniteTalkError,
    Phase,
    Precision,
    Quantization,
    UsageError,
)
from infinite_talk.frontends.web.language import language_of
from infinite_talk.frontends.web.model_form import LORAS, PARTS, SWITCH, ModelForm, model_form_of, settings_of
from infinite_talk.frontends.web.panels import QUIETLY, Panels
from infinite_talk.frontends.web.telling import told
from infinite_talk.jobs import State
from infinite_talk.jobs.adviser import Choice, Machine, ModelFile, Runs
from infinite_talk.jobs.desk import DEFAULT

LONGEST_NAME = 60
EVERY = 3.0
"""Seconds between two looks at the workers, while the tab is open."""


def build(panels: Panels, tab: gr.Tab, timer: gr.Timer | None) -> None:
    """Make the components and connect them. Called within the tab; the timer ticks while it is open."""
    label = panels.texts.label
    files = panels.files()
    fields: dict[str, Any] = {}
    gr.Markdown(label("models_help"))
    with gr.Row():
        names = gr.Dropdown(
            [(label("profile_default"), ""), *((name, name) for name in panels.profiles())],
            value="",
            label=label("models_profile"),
            elem_id="models_profile",
            scale=2,
        )
        name = gr.Textbox("", label=label("models_name"), max_lines=1, elem_id="models_name", scale=2)
    with gr.Row():
        check = gr.Button(label("models_check"), variant="primary", elem_id="models_check")
        save = gr.Button(label("models_save"), elem_id="models_save")
        forget = gr.Button(label("models_delete"), elem_id="models_delete")
        again = gr.Button(label("models_again"), elem_id="models_again")
    said = gr.HTML(elem_id="models_said")
    status = gr.HTML(elem_id="models_status")
    with gr.Row(equal_height=False):
        with gr.Column(min_width=320):
            _files(panels, fields, files)
            _loras(panels, fields, files)
        with gr.Column(min_width=320):
            _kernels(panels, fields)
            _memory(panels, fields)
    ordered = {name: fields[name] for name in ModelForm.names()}
    _connect(panels, ordered, names, name, said, (check, save, forget, again))

    def look(request: gr.Request) -> str:
        return load_status(panels, language_of(request))

    assert timer is not None, "the tab has a timer"
    gr.on([tab.select, timer.tick], look, None, status, api_visibility="private", show_progress="hidden")


def _files(panels: Panels, fields: dict[str, Any], files: Sequence[ModelFile]) -> None:
    label = panels.texts.label
    with gr.Column(elem_classes="it-part"):
        gr.Markdown(label("models_files"), elem_classes="it-step")
        fields["model"] = gr.Dropdown(
            _models(panels, files),
            value="",
            label=label("models_model"),
            info=label("models_model_help"),
            allow_custom_value=True,
            elem_id="models_model",
        )
        for part in PARTS:
            fields[part] = gr.Dropdown(
                _of_part(panels, part, files),
                value="",
                label=label(f"part_{part}"),
                allow_custom_value=True,
                elem_id=f"models_{part}",
            )


def _models(panels: Panels, files: Sequence[ModelFile]) -> list[tuple[Any, str]]:
    """Whole models: the embedded one, the server's own, folders, presets that are here."""
    own = [str(path) for path in (panels.base.model, *panels.base.models_dirs) if path is not None]
    names = dict.fromkeys((*own, *(one.path for one in files if one.part == "preset")))
    return [(panels.texts.label("models_embedded"), ""), *((name, name) for name in names)]


def _of_part(panels: Panels, part: str, files: Sequence[ModelFile]) -> list[tuple[Any, str]]:
    found = [
        (f"{one.name} ({one.precision})" if one.precision else one.name, one.path)
        for one in files
        if one.part == part and not one.problem
    ]
    none = "none_chosen" if part in ("tiny_vae", "lora") else "models_by_itself"
    return [(panels.texts.label(none), ""), *found]


def _loras(panels: Panels, fields: dict[str, Any], files: Sequence[ModelFile]) -> None:
    label = panels.texts.label
    with gr.Accordion(label("models_loras"), open=False, elem_id="models_loras"):
        gr.Markdown(label("models_loras_help"))
        for number in range(1, LORAS + 1):
            with gr.Row():
                fields[f"lora_{number}"] = gr.Dropdown(
                    _of_part(panels, "lora", files),
                    value="",
                    label=f"LoRA {number}",
                    scale=3,
                    min_width=160,
                    allow_custom_value=True,
                    elem_id=f"models_lora_{number}",
                )
                fields[f"strength_{number}"] = gr.Textbox(
                    "1",
                    label=label("models_strength"),
                    max_lines=1,
                    scale=1,
                    min_width=90,
                    elem_id=f"models_strength_{number}",
                )
        fields["merge"] = gr.Checkbox(True, label=label("models_merge"))


def _kernels(panels: Panels, fields: dict[str, Any]) -> None:
    label = panels.texts.label

    def choice(name: str, values: Sequence[Any], **more: Any) -> None:  # noqa: ANN401 - of the component
        fields[name] = gr.Dropdown(
            [str(value) for value in values],
            value=str(more.pop("value", values[0])),
            label=label(f"models_{name}"),
            elem_id=f"models_{name}",
            **more,
        )

    with gr.Column(elem_classes="it-part"):
        gr.Markdown(label("models_runs"), elem_classes="it-step")
        choice("quantization", list(Quantization), info=label("models_quantization_help"))
        choice("attention", list(Attention), info=label("models_attention_help"))
        with gr.Row():
            choice("precision", list(Precision), min_width=130)
            choice("vae_precision", list(Precision), min_width=130)
            choice("device", list(Device), min_width=130)
        fields["strict"] = gr.Checkbox(False, label=label("models_strict"))


def _memory(panels: Panels, fields: dict[str, Any]) -> None:
    label = panels.texts.label

    def number(name: str, value: float, **more: Any) -> None:  # noqa: ANN401
        fields[name] = gr.Number(
            value, label=label(f"models_{name}"), min_width=130, elem_id=f"models_{name}", **more
        )

    def switch(name: str) -> None:
        choices = panels.texts.choices("switch", SWITCH)
        fields[name] = gr.Dropdown(choices, value="auto", label=label(f"models_{name}"), min_width=130)

    with gr.Accordion(label("models_memory"), open=False, elem_id="models_memory"):
        gr.Markdown(label("models_memory_help"))
        with gr.Row():
            number("vram", 0, minimum=0)
            number("blocks_to_swap", -1, precision=0, minimum=-1)
            number("prefetch_blocks", -1, precision=0, minimum=-1, maximum=8)
        with gr.Row():
            switch("vae_tiling")
            switch("keep_encoders")
    with gr.Accordion(label("models_speed"), open=False, elem_id="models_speed"):
        with gr.Row():
            switch("tf32")
            fields["gemm"] = gr.Dropdown(
                [str(one) for one in Gemm], value="auto", label=label("models_gemm"), min_width=130
            )
            number("threads", 0, precision=0, minimum=0)
            number("crf", 18, precision=0, minimum=0, maximum=51)
        fields["fuse_qkv"] = gr.Checkbox(False, label=label("models_fuse_qkv"))
        fields["contiguous"] = gr.Checkbox(False, label=label("models_contiguous"))
        fields["compile"] = gr.Checkbox(False, label=label("models_compile"), elem_id="models_compile")
        with gr.Row():
            for name, values in _COMPILE.items():
                fields[f"compile_{name}"] = gr.Dropdown(
                    list(values), value=values[0], label=label(f"models_compile_{name}"), min_width=130
                )
            number("compile_cache", 64, precision=0, minimum=1)
        with gr.Row():
            fields["compile_fullgraph"] = gr.Checkbox(False, label="fullgraph", min_width=130)
            fields["compile_dynamic"] = gr.Checkbox(False, label="dynamic", min_width=130)


_COMPILE = {
    "backend": ("inductor", "cudagraphs"),
    "mode": ("default", "max-autotune", "max-autotune-no-cudagraphs", "reduce-overhead"),
}


def _connect(
    panels: Panels,
    fields: dict[str, Any],
    names: gr.Dropdown,
    name: gr.Textbox,
    said: gr.HTML,
    buttons: tuple[gr.Button, gr.Button, gr.Button, gr.Button],
) -> None:
    texts, inputs = panels.texts, list(fields.values())
    check, save, forget, again = buttons

    def meant(values: tuple[Any, ...]) -> Any:  # noqa: ANN401 - Settings
        return settings_of(ModelForm.of(values), panels.base, panels.known(panels.files()))

    def show(request: gr.Request, *values: Any) -> str:  # noqa: ANN401
        language = language_of(request)
        try:
            return report_html(panels, language, panels.adviser.runs(meant(values)), panels.adviser.machine())
        except InfiniteTalkError as error:
            return told(texts, language, error)

    def keep(request: gr.Request, wanted: str, *values: Any) -> tuple[str, Any]:  # noqa: ANN401
        language = language_of(request)
        try:
            chosen = profile_name(wanted)
            panels.desk.store.set_profile(chosen, meant(values))
        except InfiniteTalkError as error:
            return told(texts, language, error), gr.skip()
        good = f'<p class="it-good" role="status">{texts.html(language, "models_saved", name=chosen)}</p>'
        return good, _choices(panels, chosen)

    def remove(request: gr.Request, chosen: str) -> tuple[str, Any]:
        language = language_of(request)
        if not chosen:
            return told(texts, language, UsageError("Choose a profile first.", code="no_profile")), gr.skip()
        panels.desk.store.set_profile(chosen, None)
        good = f'<p class="it-good" role="status">{texts.html(language, "models_deleted", name=chosen)}</p>'
        return good, _choices(panels, "")

    def load(request: gr.Request, chosen: str) -> list[Any]:
        try:
            form = model_form_of(panels.settings(chosen))
        except InfiniteTalkError as error:
            return [told(texts, language_of(request), error), *[gr.skip()] * (1 + len(inputs))]
        return ["", chosen, *(getattr(form, field) for field in fields)]

    def rescan() -> list[Any]:
        files = panels.files()
        parts = [gr.update(choices=_of_part(panels, part, files)) for part in PARTS]
        return [*parts, *[gr.update(choices=_of_part(panels, "lora", files))] * LORAS]

    check.click(show, inputs, said, **QUIETLY)
    save.click(keep, [name, *inputs], [said, names], **QUIETLY)
    forget.click(remove, names, [said, names], **QUIETLY)
    names.input(load, names, [said, name, *inputs], **QUIETLY)
    found = [fields[part] for part in PARTS] + [fields[f"lora_{number}"] for number in range(1, LORAS + 1)]
    again.click(rescan, None, found, **QUIETLY)


def _choices(panels: Panels, chosen: str) -> Any:  # noqa: ANN401 - an update
    own = (panels.texts.label("profile_default"), "")
    return gr.update(
        choices=[own, *((name, name) for name in panels.profiles())],
        value="" if chosen == DEFAULT else chosen,
    )


def profile_name(text: str) -> str:
    """A name that can be shown and typed anywhere.

    Raises:
        UsageError: it is empty, too long, or has characters that are not seen.
    """
    name = " ".join(text.split())
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise UsageError(
            f"A profile needs a name of 1 to {LONGEST_NAME} characters; came {name[:80]!r}.",
            code="profile_name",
        )
    return name


def report_html(panels: Panels, language: str, runs: Runs, machine: Machine) -> str:
    """What really runs for what was asked, why, and what else this machine could run."""
    say = panels.texts.html
    rows = {
        "models_model": runs.model,
        "models_device": runs.device,
        "models_precision": runs.precision,
        "models_quantization": runs.quantization,
        "models_attention": runs.attention,
        "models_summary": runs.summary,
    }
    facts = "".join(f"<dt>{say(language, key)}</dt><dd>{escape(value)}</dd>" for key, value in rows.items())
    notes = "".join(f'<p class="it-warn" lang="en">{escape(note)}</p>' for note in runs.notes)
    as_asked = "" if notes else f'<p class="it-good">{say(language, "models_as_asked")}</p>'
    return (
        f'<section class="it-job" aria-live="polite"><h3>{say(language, "models_report")}</h3>'
        f'<dl class="it-facts">{facts}</dl>{notes}{as_asked}'
        f"{_choices_html(panels, language, 'models_kernels', machine.attention, machine.device)}"
        f"{_choices_html(panels, language, 'models_precisions', machine.quantization, machine.device)}</section>"
    )


def _choices_html(panels: Panels, language: str, title: str, choices: Sequence[Choice], device: str) -> str:
    say = panels.texts.html
    words = {usable: say(language, "models_yes" if usable else "models_no") for usable in (True, False)}
    rows = "".join(
        f'<tr><th scope="row">{escape(one.name)}</th><td>{words[one.usable]}</td>'
        f"<td>{'' if one.milliseconds is None else f'{one.milliseconds:.3g} ms'}</td><td>{escape(one.why)}</td></tr>"
        for one in choices
    )
    return (
        f"<details><summary>{say(language, title, device=device)}</summary>"
        f'<div class="it-wide"><table class="it-table">{rows}</table></div></details>'
    )


def load_status(panels: Panels, language: str) -> str:
    """What workers have loaded, or are loading."""
    say = panels.texts.html
    running = panels.desk.list(states=(State.RUNNING,), limit=8)
    if not running:
        return f'<p class="it-dim" role="status">{say(language, "models_idle")}</p>'
    lines = []
    for job in running:
        key = "models_loading" if job.progress.phase in (None, Phase.LOADING) else "models_loaded"
        profile = job.order.profile or DEFAULT
        lines.append(
            f'<p class="it-dim" role="status">{say(language, key, profile=profile, runs=job.progress.runs)}</p>'
        )
    return "".join(lines)
