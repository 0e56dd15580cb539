"""The tab Create: picture, voice, button; then progress, a preview that grows, and the video."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from infinite_talk import AudioLayout, InfiniteTalkError
from infinite_talk.frontends.presets import Preset
from infinite_talk.frontends.web import choices as choices_of
from infinite_talk.frontends.web.cards import Cards
from infinite_talk.frontends.web.events import QUIETLY, page_load, with_request
from infinite_talk.frontends.web.files import file_field, voice_field
from infinite_talk.frontends.web.form import Form
from infinite_talk.frontends.web.language import language_of
from infinite_talk.frontends.web.making import Maker, trim_of
from infinite_talk.frontends.web.telling import told
from infinite_talk.jobs import Job

TO_RESULT = """(...values) => {
  const still = matchMedia('(prefers-reduced-motion: reduce)').matches;
  document.querySelector('#status')?.scrollIntoView({ behavior: still ? 'auto' : 'smooth', block: 'nearest' });
  return values;
}"""
"""On a narrow screen the result is below the form."""
LONG = 4_000_000
"""Bytes of a file whose check takes a while: minutes of compressed speech."""
TYPED = ("prompt", "negative_prompt", "size", "box_first", "box_second")
"""Fields that mean something only when they are written to their end."""
NOT_ESTIMATED = ("title", "seed")
"""Fields that change neither the work nor whether it can be done."""


@dataclass(frozen=True, slots=True)
class Create:
    """The components that the rest of the page needs."""

    fields: dict[str, Any]
    """By name, in the order of ``Form``."""
    job: gr.BrowserState
    """Id of the job that is shown; the browser remembers it."""
    timer: gr.Timer
    """Runs while that job does."""


def build(maker: Maker, tab: gr.Tab) -> Create:
    """Make the components and connect them. Called within the tab; what it shows is looked up when it is opened."""
    fields: dict[str, Any] = {}
    job, seen = gr.BrowserState("", storage_key="infinite_talk_job", secret="infinite-talk"), gr.State("")
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=320):
            found = _inputs(maker, fields)
            estimate, complaint, make = _order(maker, fields, tab)
        with gr.Column(scale=1, min_width=320, elem_classes="it-result"):
            result = _result(maker)
    ordered = {name: fields[name] for name in Form.names()} | maker.more
    _connect_files(maker, ordered, found, tab)
    _connect_estimate(maker, ordered, estimate, complaint, seen, tab)
    _connect_job(maker, ordered, make, complaint, result, job, seen)
    return Create(ordered, job, result.timer)


def _inputs(maker: Maker, fields: dict[str, Any]) -> dict[str, gr.HTML]:
    """Picture, voices, trim, places of two people; returns where findings are told."""
    label, found = maker.texts.label, {}
    with gr.Column(elem_classes="it-part"):
        gr.Markdown(label("step_picture"), elem_classes="it-step")
        fields["picture"] = file_field(
            label=label("picture"), file_types=["image", "video"], elem_id="picture", height=150
        )
        sample_picture = _sample(label("sample_picture"), "sample_picture")
        found["picture"] = gr.HTML(elem_id="found_picture", padding=True)
    with gr.Column(elem_classes="it-part"):
        gr.Markdown(label("step_voice"), elem_classes="it-step")
        fields["voice"] = _recording(label("voice"), "voice")
        sample_voice = _sample(label("sample_voice"), "sample_voice")
        found["voice"] = gr.HTML(elem_id="found_voice", padding=True)
        with gr.Accordion(label("trim"), open=False, elem_id="trim"), gr.Row():
            for name in ("trim_start", "trim_end"):
                fields[name] = gr.Number(0, label=label(name), minimum=0, step=0.1, min_width=140)
    with gr.Accordion(label("two_people"), open=False, elem_id="two_people"):
        found["voice2"] = _second_person(maker, fields)
    sample_picture.click(
        lambda: maker.sample(maker.options.sample_picture), None, fields["picture"], **QUIETLY
    )
    sample_voice.click(lambda: maker.sample(maker.options.sample_voice), None, fields["voice"], **QUIETLY)
    return found


def _recording(label: Any, name: str) -> gr.Audio:  # noqa: ANN401 - a marker of Gradio
    return voice_field(label=label, sources=["upload", "microphone"], elem_id=name, buttons=[])


def _sample(label: Any, name: str) -> gr.Button:  # noqa: ANN401 - a marker of Gradio
    return gr.Button(label, size="sm", min_width=0, elem_id=name, elem_classes="it-quiet")


def _second_person(maker: Maker, fields: dict[str, Any]) -> gr.HTML:
    label, choices = maker.texts.label, maker.texts.choices
    gr.Markdown(label("two_people_help"))
    gr.Markdown(label("two_people_one"))
    fields["voice2"] = _recording(label("second_voice"), "voice2")
    found = gr.HTML(elem_id="found_voice2", padding=True)
    fields["layout"] = gr.Radio(
        choices("voices", AudioLayout), value=AudioLayout.TOGETHER.value, label=label("voices_order")
    )
    gr.Radio(
        choices("draw", ("first", "second")),
        value="first",
        label=label("draw_for"),
        interactive=True,  # Gradio turns off what no handler reads; this is read by the page's script
        elem_id="draw_for",
    )
    with gr.Row():
        for name in ("box_first", "box_second"):
            fields[name] = gr.Textbox(
                "",
                label=label(name),
                info=label("box_help"),
                placeholder="80,60,420,470",
                max_lines=1,
                min_width=140,
                elem_id=name,
            )
    with gr.Row():
        for name in ("mask_first", "mask_second"):
            fields[name] = file_field(
                label=label(name), file_types=["image"], height=150, min_width=140, elem_id=name
            )
    return found


def _order(maker: Maker, fields: dict[str, Any], tab: gr.Tab) -> tuple[gr.HTML, gr.HTML, gr.Button]:
    """Words, preset, options, the estimate and the button."""
    label, choices = maker.texts.label, maker.texts.choices
    with gr.Column(elem_classes="it-part"):
        gr.Markdown(label("step_make"), elem_classes="it-step")
        fields["prompt"] = gr.Textbox(
            "", label=label("prompt"), info=label("prompt_help"), placeholder=label("prompt_example"), lines=2
        )
        fields["preset"] = gr.Radio(
            choices("preset", Preset), value=Preset.BALANCED.value, label=label("preset"), elem_id="preset"
        )
        with gr.Accordion(label("advanced"), open=False, elem_id="advanced"):
            choices_of.build(maker, fields, tab)
        estimate = gr.HTML(elem_id="estimate", padding=True)
        complaint = gr.HTML(elem_id="complaint")
        make = gr.Button(label("make"), variant="primary", size="lg", elem_id="make")
    return estimate, complaint, make


@dataclass(frozen=True, slots=True)
class _Result:
    status: gr.HTML
    player: gr.HTML
    cancel: gr.Button
    timer: gr.Timer


def _result(maker: Maker) -> _Result:
    empty = gr.HTML(f'<div class="it-empty">{maker.texts.label("result_empty")}</div>', elem_id="status")
    player = gr.HTML(elem_id="result")
    cancel = gr.Button(maker.texts.label("cancel"), visible=False, variant="stop", elem_id="cancel")
    return _Result(empty, player, cancel, gr.Timer(maker.options.every, active=False))


def _empty(maker: Maker, language: str) -> str:
    return f'<div class="it-empty">{maker.texts.html(language, "result_empty")}</div>'


def _connect_files(maker: Maker, fields: dict[str, Any], found: dict[str, gr.HTML], tab: gr.Tab) -> None:
    def picture(path: object, size: str | None, request: gr.Request) -> Iterator[str]:
        yield from _telling(
            maker, path, request, lambda language, file: maker.found_picture(file, size, language)
        )

    def voice(path: object, start: float | None, end: float | None, request: gr.Request) -> Iterator[str]:
        trim = trim_of(Form(trim_start=start or 0.0, trim_end=end or 0.0))
        yield from _telling(
            maker, path, request, lambda language, file: maker.found_sound(file, trim, language)
        )

    late: dict[str, Any] = {**QUIETLY, "trigger_mode": "always_last", "concurrency_limit": None}
    watched = [fields["picture"], fields["size"]]
    gr.on(
        [fields["picture"].change, fields["size"].blur, fields["size"].submit, tab.select],
        picture,
        watched,
        found["picture"],
        **late,
    )
    for name in ("voice", "voice2"):
        watched = [fields[name], fields["trim_start"], fields["trim_end"]]
        gr.on([part.change for part in watched], voice, watched, found[name], **late)


def _telling(
    maker: Maker, path: object, request: gr.Request, tell: Callable[[str, Path], str]
) -> Iterator[str]:
    """That a file is being looked at, then what is in it."""
    language = language_of(request)
    try:
        file = maker.uploaded(path)
        if file is None:
            yield ""
            return
        key = "checking_long" if file.stat().st_size > LONG else "checking"
        yield _waiting(maker, language, key)
        yield tell(language, file)
    except InfiniteTalkError as error:
        yield told(maker.texts, language, error)


def _waiting(maker: Maker, language: str, key: str) -> str:
    return f'<p class="it-dim" role="status">{maker.texts.html(language, key)}</p>'


def _connect_estimate(
    maker: Maker,
    fields: dict[str, Any],
    estimate: gr.HTML,
    complaint: gr.HTML,
    seen: gr.State,
    tab: gr.Tab,
) -> None:
    def guess(*values: Any, request: gr.Request) -> Iterator[str]:  # noqa: ANN401 - of all fields
        language = language_of(request)
        if maker.can_estimate(values):  # what stood there is of other settings; the answer may take seconds
            yield _waiting(maker, language, "estimating")
        yield maker.estimate(values, language)

    def guess_afresh(*values: Any, request: gr.Request) -> Iterator[tuple[str, str]]:  # noqa: ANN401
        for said in guess(*values, request=request):
            yield said, ""

    events = [*estimated(fields), tab.select, page_load()]
    late: dict[str, Any] = {**QUIETLY, "trigger_mode": "always_last", "concurrency_limit": None}
    gr.on(events, with_request(guess_afresh), list(fields.values()), [estimate, complaint], **late)
    # How many videos are before the next one changes when one's own begins, grows and ends.
    seen.change(with_request(guess), list(fields.values()), estimate, **late)


def estimated(fields: dict[str, Any]) -> list[Any]:
    """Events of all fields after which the estimate is another one."""
    told = [name for name in fields if name not in NOT_ESTIMATED]
    chosen = [fields[name].change for name in told if name not in TYPED]
    return chosen + [event for name in TYPED for event in (fields[name].blur, fields[name].submit)]


def _connect_job(
    maker: Maker,
    fields: dict[str, Any],
    make: gr.Button,
    complaint: gr.HTML,
    result: _Result,
    job: gr.BrowserState,
    seen: gr.State,
) -> None:
    shown = [result.status, result.player, result.cancel, result.timer, seen]

    def submit(*values: Any, request: gr.Request) -> Iterator[tuple[Any, Any]]:  # noqa: ANN401 - of all fields
        language = language_of(request)
        yield gr.skip(), _waiting(maker, language, "handing_in")
        try:
            yield maker.submit(values).id, ""
        except InfiniteTalkError as error:
            yield gr.skip(), maker.complaint(error, language)

    def look(known: str, last: str, request: gr.Request) -> Sequence[Any]:
        return show(maker, known, last, language_of(request))

    def look_afresh(known: str, request: gr.Request) -> Sequence[Any]:
        return show(maker, known, "", language_of(request))

    def cancel(known: str, request: gr.Request) -> str:
        try:
            maker.desk.cancel(known)
        except InfiniteTalkError as error:
            return told(maker.texts, language_of(request), error)
        return ""

    now = {**QUIETLY, "concurrency_limit": None}
    handed_in = make.click(
        with_request(submit), list(fields.values()), [job, complaint], concurrency_limit=None, **QUIETLY
    )
    handed_in.then(look, [job, seen], shown, js=TO_RESULT, **now)
    job.change(look_afresh, [job], shown, **now)
    page_load()(look_afresh, [job], shown, **now)
    result.cancel.click(cancel, [job], complaint, **now).then(look, [job, seen], shown, **now)
    result.timer.tick(look, [job, seen], shown, **now)


def show(maker: Maker, known: object, last: str, language: str) -> Sequence[Any]:
    """Progress, player, the button Cancel, the timer, and what is shown now; nothing of what has not changed.

    Args:
        known: id of the job; a browser may send anything.
        last: what was shown before, as this function returned it.
    """
    if not known or not isinstance(known, str):
        if not last:
            return (gr.skip(),) * 5
        return _empty(maker, language), "", gr.update(visible=False), gr.Timer(active=False), ""
    cards = Cards(maker.texts, language, maker.options.videos)
    try:
        job = maker.desk.get(known)
    except InfiniteTalkError as error:
        told_so = told(maker.texts, language, error)
        return told_so, "", gr.update(visible=False), gr.Timer(active=False), "gone"
    now, going_on = kind_of(job), not job.state.ended
    if now == last:
        return cards.progress(job), gr.skip(), gr.skip(), gr.skip(), now
    return (
        cards.progress(job),
        cards.player(job),
        gr.update(visible=going_on),
        gr.Timer(active=going_on),
        now,
    )


def kind_of(job: Job) -> str:
    """What a job's player shows; as long as it is the same, the player is left alone, so that it goes on playing."""
    if job.state.ended:
        return f"{job.id} {job.state}"
    return f"{job.id} {'growing' if job.progress.window else 'waiting'}"
