"""The options of the tab Create: what only those open who want more than a preset."""

from __future__ import annotations

from typing import Any

import gradio as gr

from infinite_talk import Distilled
from infinite_talk.frontends.web.events import QUIETLY, page_load
from infinite_talk.frontends.web.form import CACHES
from infinite_talk.frontends.web.making import Maker
from infinite_talk.frontends.web.samplers import SAMPLERS, SCHEDULERS, sampler_of, scheduler_for
from infinite_talk.frontends.web.texts import Texts
from infinite_talk.jobs.desk import DEFAULT


def build(maker: Maker, fields: dict[str, Any], tab: gr.Tab) -> None:
    """Make the components, by name. Called within the accordion.

    Args:
        tab: Create; when it is opened, profiles that were made meanwhile can be chosen.
    """
    label, texts = maker.texts.label, maker.texts
    fields["negative_prompt"] = gr.Textbox("", label=label("negative_prompt"), lines=2)
    fields["title"] = gr.Textbox("", label=label("settings_title"), max_lines=1, max_length=200)
    fields["profile"] = gr.Dropdown(
        _profiles(maker), value="", label=label("profile"), info=label("profile_help"), elem_id="profile"
    )
    for event in (page_load(), tab.select):
        event(lambda: gr.update(choices=_profiles(maker)), None, fields["profile"], **QUIETLY)
    with gr.Row():
        fields["size"] = gr.Textbox(
            "", label=label("size"), info=label("size_help"), max_lines=1, min_width=150
        )
        fields["seed"] = _number(texts, "seed", 42, "seed_help", precision=0)
        fields["steps"] = _number(texts, "steps", 0, "steps_help", precision=0)
        fields["shift"] = _number(texts, "shift", 0, "default_help")
        fields["text_guidance"] = _number(texts, "text_guidance", 0, "guidance_help")
        fields["audio_guidance"] = _number(texts, "audio_guidance", 0, "guidance_help")
        fields["window_frames"] = _number(texts, "window_frames", 0, "frames_help", precision=0)
        fields["motion_frames"] = _number(texts, "motion_frames", 0, "frames_help", precision=0)
        fields["max_frames"] = _number(texts, "max_frames", 0, "max_frames_help", precision=0)
    fields["scheduler"] = _sampling(texts)
    with gr.Row():
        caches = [(label("none_chosen"), ""), *((kind.__name__, name) for name, kind in CACHES.items())]
        fields["step_cache"] = gr.Dropdown(
            caches, value="", label=label("step_cache"), info=label("step_cache_help"), min_width=150
        )
        few = [(label("none_chosen"), ""), *((str(name), str(name)) for name in Distilled)]
        fields["distilled"] = gr.Dropdown(
            few, value="", label=label("distilled"), info=label("distilled_help"), min_width=150
        )
    fields["colour_strength"] = gr.Slider(0, 1, value=1, step=0.05, label=label("colour_strength"))
    fields["scene_cuts"] = gr.Checkbox(False, label=label("scene_cuts"))
    if maker.options.more is not None:
        maker.more.update(maker.options.more.build())


def _profiles(maker: Maker) -> list[tuple[Any, str]]:
    """What can be chosen: the settings of the tab Models, by name."""
    names = sorted(name for name in maker.desk.store.profiles() if name != DEFAULT)
    return [(maker.texts.label("profile_default"), ""), *((name, name) for name in names)]


def _number(texts: Any, name: str, value: float, help: str, precision: int | None = None) -> gr.Number:  # noqa: ANN401, A002
    return gr.Number(
        value,
        label=texts.label(name),
        info=texts.label(help),
        precision=precision,
        min_width=150,
        elem_id=name,
    )


def _sampling(texts: Texts) -> gr.Dropdown:
    """Make both lists and connect them; returns that of schedulers, which is what is handed in."""
    label, own = texts.label, (texts.label("scheduler_own"), "")
    with gr.Row():
        sampler = gr.Dropdown(
            [own, *((name, name) for name in SAMPLERS)],
            value="",
            label=label("sampler"),
            info=label("sampler_help"),
            min_width=150,
            elem_id="sampler",
        )
        scheduler = gr.Dropdown(
            [own, *((name, name) for name in SCHEDULERS)],
            value="",
            label=label("scheduler"),
            info=label("scheduler_help"),
            min_width=150,
            elem_id="scheduler",
        )
    sampler.input(scheduler_for, [sampler, scheduler], scheduler, **QUIETLY)
    scheduler.change(sampler_of, scheduler, sampler, **QUIETLY)
    return scheduler
