"""The tab Quality: how the mouth follows the sound, where windows meet, how colours drift, what each window took."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape
from typing import Any

import gradio as gr

from infinite_talk import InfiniteTalkError
from infinite_talk.frontends.web.charts import Line, bars, chart
from infinite_talk.frontends.web.language import language_of
from infinite_talk.frontends.web.panels import QUIETLY, Panels
from infinite_talk.frontends.web.telling import amount, number, told

FPS = 25
"""Values of a track in a second."""
LOOKS = 5
"""Frames from one look at the colours to the next (``quality.EVERY``)."""
NOTICEABLE = 2.3
"""CIE 1976 delta E that is just noticed (Mahy, Van Eycken and Oosterlinck, 1994)."""


def build(panels: Panels) -> None:
    """Make the components and connect them. Called within the tab."""
    label = panels.texts.label
    gr.Markdown(label("quality_help"))
    with gr.Row():
        job = panels.finished_field("quality_video", elem_id="quality_job", scale=3, min_width=300)
        start = gr.Button(label("quality_measure"), variant="primary", elem_id="quality_measure", scale=1)
    said = gr.HTML(f'<div class="it-empty">{label("quality_empty")}</div>', elem_id="quality_said")

    def measure(request: gr.Request, chosen: str | None) -> str:
        return report(panels, chosen, language_of(request))

    start.click(measure, job, said, **QUIETLY)


def report(panels: Panels, chosen: str | None, language: str) -> str:
    """The charts of one job as HTML, or what is wrong."""
    say = panels.texts.html
    if not chosen:
        return f'<div class="it-empty">{say(language, "quality_choose")}</div>'
    try:
        found, path = panels.video(chosen)
        measured = panels.adviser.measured(path)
    except InfiniteTalkError as error:
        return told(panels.texts, language, error)
    title = escape(found.order.title or found.id)
    return f'<section class="it-job" aria-live="polite"><h3>{title}</h3>{charts(panels, language, measured)}</section>'


def charts(panels: Panels, language: str, found: Mapping[str, Any]) -> str:
    """All charts of a measurement (``quality.Quality`` as JSON)."""
    return "".join(
        (
            _verdict(panels, language, found),
            _mouth(panels, language, found),
            _colours(panels, language, found),
            _windows(panels, language, found),
        )
    )


def _verdict(panels: Panels, language: str, found: Mapping[str, Any]) -> str:
    say = panels.texts.html
    lines = []
    if found["r"] is None:
        lines.append(f'<p class="it-warn">{say(language, "quality_silent")}</p>')
    for name, key in (("", "quality_loudness"), ("speech_", "quality_speech")):
        if (r := found[f"{name}r"]) is not None:
            lag = round(1000 * found[f"{name}lag"] / FPS)
            lines.append(f"<p>{say(language, key, r=f'{r:.2f}', lag=f'{lag:+d}')}</p>")
    if not found["believable"]:
        agreement = f"{found['agreement']:.2f}"
        lines.append(f'<p class="it-warn">{say(language, "quality_doubt", agreement=agreement)}</p>')
    elif found["shortcomings"]:
        lines.append(f'<p class="it-warn">{say(language, "quality_short")}</p>')
        lines.append(
            "".join(f'<p class="it-dim" lang="en">– {escape(one)}</p>' for one in found["shortcomings"])
        )
    elif found["r"] is not None:
        lines.append(f'<p class="it-good">{say(language, "quality_good")}</p>')
    return "".join(lines)


def _mouth(panels: Panels, language: str, found: Mapping[str, Any]) -> str:
    def say(key: str, **values: object) -> str:
        return panels.texts.say(language, key, **values)

    seams = [seam / FPS for seam in found["seams"]]
    loud = [Line("", found["loudness"], "sound", 1 / FPS)]
    opening = found["opening"]
    mouth = [Line(say("quality_opening"), opening, "mouth", 1 / FPS)]
    if found["expected"]:
        mouth.insert(0, Line(say("quality_expected"), _like(found["expected"], opening), "wanted", 1 / FPS))
    top = max(0.02, *opening, *(mouth[0].values if found["expected"] else ())) * 100
    percent = [
        Line(line.name, [100 * value for value in line.values], line.style, line.every) for line in mouth
    ]
    seconds = f"{found['frames'] / FPS:.1f}"
    values = {"seconds": seconds, "windows": len(seams) + 1}
    first = chart(
        say("quality_sound"), say("quality_sound_said", **values), loud, top=1.15, unit="", seams=seams
    )
    second = chart(
        say("quality_mouth"), say("quality_mouth_said", **values), percent, top=top, unit="%", seams=seams
    )
    note = f'<p class="it-dim">{panels.texts.html(language, "quality_seams")}</p>' if seams else ""
    return first + second + note


def _like(wanted: list[float], opening: list[float]) -> list[float]:
    """The wanted track at the mean and the deviation of the other, so that shapes can be compared; never below 0."""

    def mean(values: list[float]) -> float:
        return sum(values) / len(values)

    def deviation(values: list[float], middle: float) -> float:
        return math.sqrt(sum((value - middle) ** 2 for value in values) / len(values))

    ours, theirs = mean(opening), mean(wanted)
    spread = deviation(wanted, theirs)
    factor = deviation(opening, ours) / spread if spread > 1e-9 else 0.0
    return [max(0.0, (value - theirs) * factor + ours) for value in wanted]


def _colours(panels: Panels, language: str, found: Mapping[str, Any]) -> str:
    drift, seams = found["drift"], [seam / FPS for seam in found["seams"]]
    if not drift:
        return ""
    most = max(drift)
    values = {"most": number(most), "last": number(drift[-1])}
    key = "quality_drift_seen" if most > NOTICEABLE else "quality_drift_unseen"
    said = panels.texts.say(language, key, **values)
    line = Line("", drift, "drift", LOOKS / FPS)
    title = panels.texts.say(language, "quality_drift")
    picture = chart(title, said, [line], top=max(most * 1.1, NOTICEABLE), unit="ΔE", seams=seams)
    return f'{picture}<p class="it-dim">{escape(said)}</p>'


def _windows(panels: Panels, language: str, found: Mapping[str, Any]) -> str:
    windows = found["windows"]
    if not windows:
        return f'<p class="it-dim">{panels.texts.html(language, "quality_no_windows")}</p>'
    seconds = [float(one["seconds"]) for one in windows]
    memory = [one["memory"] for one in windows if one["memory"] is not None]
    mean = number(sum(seconds) / len(seconds))
    said = panels.texts.say(language, "quality_pace_said", windows=len(windows), mean=mean)
    parts = [bars(panels.texts.say(language, "quality_pace"), said, seconds, unit="s", style="pace")]
    parts.append(f'<p class="it-dim">{escape(said)}</p>')
    if memory:
        said = panels.texts.say(language, "quality_memory_said", most=amount(max(memory)))
        title = panels.texts.say(language, "quality_memory")
        parts.append(bars(title, said, [one / 1e9 for one in memory], unit="GB", style="memory", digits=2))
        parts.append(f'<p class="it-dim">{escape(said)}</p>')
    return "".join(parts)
