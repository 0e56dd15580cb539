"""The tab Compare: two videos side by side in sync, and what was different about how they were made."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

import gradio as gr

from infinite_talk import InfiniteTalkError
from infinite_talk.frontends.web.language import language_of
from infinite_talk.frontends.web.panels import QUIETLY, Panels
from infinite_talk.frontends.web.telling import told
from infinite_talk.jobs import Job, Order

_NOT_COMPARED = ("title", "files", "extra", "profile")
"""Parts of an order that do not change a video."""

SYNC = """
const pair = () => [...element.querySelectorAll('video')];
const both = (act) => pair().forEach(act);
let leading = null;
element.addEventListener('click', (event) => {
  const act = event.target.closest('[data-play]')?.dataset.play;
  const [first, second] = pair();
  if (!act || !second) return;
  if (act === 'start') { both((video) => { video.currentTime = 0; }); return; }
  if (act === 'pause') { both((video) => video.pause()); return; }
  if (act === 'step') { both((video) => video.pause()); first.currentTime += 0.04; return; }
  second.currentTime = first.currentTime;
  both((video) => { video.play().catch(() => {}); });
});
// Events of a video do not bubble, but they can be captured on their way down.
const follow = (event) => {
  const videos = pair();
  const other = videos.find((video) => video !== event.target);
  if (!other || !videos.includes(event.target) || (leading && leading !== event.target)) return;
  leading = event.target;
  if (event.type === 'play') other.play().catch(() => {});
  if (event.type === 'pause' && !event.target.ended) other.pause();
  if (event.type === 'ratechange') other.playbackRate = event.target.playbackRate;
  const late = Math.abs(other.currentTime - event.target.currentTime);
  if (late > (event.type === 'timeupdate' ? 0.08 : 0.001) && !other.ended) other.currentTime = event.target.currentTime;
  setTimeout(() => { leading = null; }, 0);
};
for (const name of ['play', 'pause', 'seeking', 'ratechange']) element.addEventListener(name, follow, true);
element.addEventListener('timeupdate', (event) => { if (event.target === pair()[0]) follow(event); }, true);
"""
"""Script of the pair: what one video does, the other does too; the first one leads."""


def build(panels: Panels) -> None:
    """Make the components and connect them. Called within the tab."""
    label = panels.texts.label
    gr.Markdown(label("compare_help"))
    with gr.Row(equal_height=True):
        first, second = (
            panels.finished_field(key, elem_id=key) for key in ("compare_first", "compare_second")
        )
    pair = gr.HTML(
        f'<div class="it-empty">{label("compare_empty")}</div>', elem_id="compare_pair", js_on_load=SYNC
    )

    def show(request: gr.Request, one: str | None, other: str | None) -> str:
        return pair_html(panels, one, other, language_of(request))

    for choice in (first, second):
        choice.change(show, [first, second], pair, **QUIETLY)


def pair_html(panels: Panels, one: str | None, other: str | None, language: str) -> str:
    """Both players, their controls and the differences; a hint while one is missing."""
    say = panels.texts.html
    if not one or not other:
        return f'<div class="it-empty">{say(language, "compare_empty")}</div>'
    try:
        jobs = [panels.video(one)[0], panels.video(other)[0]]
    except InfiniteTalkError as error:
        return told(panels.texts, language, error)
    players = "".join(_player(panels, job) for job in jobs)
    acts = "".join(
        f'<button type="button" class="it-act" data-play="{act}">{say(language, f"compare_{act}")}</button>'
        for act in ("play", "pause", "start", "step")
    )
    return (
        f'<div class="it-pair">{players}</div><div class="it-acts">{acts}</div>'
        f"{_table(panels, language, jobs, differences(jobs[0].order, jobs[1].order))}"
    )


def _player(panels: Panels, job: Job) -> str:
    title = escape(job.order.title or job.id)
    return (
        f'<figure><video class="it-player" controls playsinline preload="metadata" aria-label="{title}" '
        f'src="{panels.videos}/{job.id}/content"></video><figcaption>{title}</figcaption></figure>'
    )


def _table(panels: Panels, language: str, jobs: Sequence[Job], rows: Sequence[tuple[str, str, str]]) -> str:
    say = panels.texts.html
    if not rows:
        return f'<p class="it-dim">{say(language, "compare_same")}</p>'
    heads = "".join(f'<th scope="col">{escape(job.order.title or job.id[:14])}</th>' for job in jobs)
    lines = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(ours)}</td><td>{escape(theirs)}</td></tr>'
        for name, ours, theirs in rows
    )
    return (
        f"<h3>{say(language, 'compare_differences')}</h3>"
        f'<div class="it-wide"><table class="it-table"><tr><td></td>{heads}</tr>{lines}</table></div>'
    )


def differences(one: Order, other: Order) -> list[tuple[str, str, str]]:
    """Names and both values of all that is not the same and changes a video; files count by their contents."""
    ours, theirs = (dict(_flat(_told(order))) for order in (one, other))
    names = sorted(ours.keys() | theirs.keys())
    return [
        (name.removeprefix("request."), ours.get(name, "–"), theirs.get(name, "–"))
        for name in names
        if ours.get(name) != theirs.get(name)
    ]


def _told(order: Order) -> dict[str, Any]:
    """An order as JSON, media by the beginning of their hashes, with the owner's name."""
    told: dict[str, Any] = json.loads(order.to_json())
    files = {file.path: f"{file.name or file.path} ({file.sha256[:8]})" for file in order.files}

    def named(value: Any) -> Any:  # noqa: ANN401 - JSON
        if isinstance(value, dict):
            return {key: named(one) for key, one in value.items()}
        if isinstance(value, list):
            return [named(one) for one in value]
        return files.get(value, value) if isinstance(value, str) else value

    kept = {key: value for key, value in told.items() if key not in _NOT_COMPARED}
    return kept | {"request": named(told["request"])}


def _flat(data: Any, prefix: str = "") -> Iterator[tuple[str, str]]:  # noqa: ANN401 - JSON
    """Leaves with dotted names, as text."""
    if isinstance(data, Mapping):
        for key, value in data.items():
            yield from _flat(value, f"{prefix}{key}.")
    elif isinstance(data, list) and data:
        for place, value in enumerate(data, 1):
            yield from _flat(value, f"{prefix}{place}.")
    else:
        text = "–" if data is None or data == [] else data if isinstance(data, str) else json.dumps(data)
        yield prefix.rstrip("."), text[:200]
