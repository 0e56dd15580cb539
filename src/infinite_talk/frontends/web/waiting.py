"""The tab Queue: everything that is not finished, in its order, and what can be done with it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import gradio as gr

from infinite_talk import InfiniteTalkError
from infinite_talk.frontends.web.cards import ACTS, Cards
from infinite_talk.frontends.web.events import EVERY_PRESS, QUIETLY
from infinite_talk.frontends.web.language import language_of
from infinite_talk.frontends.web.making import Maker
from infinite_talk.frontends.web.telling import alert, error_text
from infinite_talk.jobs import Job, State
from infinite_talk.jobs.desk import Desk

ENDED = 20
"""Failed and cancelled jobs that are shown; older ones can still be seen on the command line."""
_ID = re.compile(r"[A-Za-z0-9_-]{1,80}")


def build(maker: Maker, tab: gr.Tab, timer: gr.Timer, open_job: Callable[[gr.HTML], None]) -> None:
    """Make the components and connect them. Called within the tab.

    Args:
        tab: it; the list is drawn when it is opened.
        timer: its ticks draw the list anew, where it has changed.
        open_job: connects what shows a job or takes its settings to the list's events.
    """
    complaint = gr.HTML(elem_id="queue_complaint")
    summary = gr.HTML(elem_id="queue_summary")
    jobs = gr.HTML(elem_id="queue", js_on_load=ACTS)
    drawn = gr.State("")

    def draw(last: str, request: gr.Request) -> tuple[Any, Any, str]:
        language = language_of(request)
        cards = Cards(maker.texts, language, maker.options.videos)
        html, line = queue_html(maker.desk, cards), summary_html(maker.desk, cards)
        if html + line == last:
            return gr.skip(), gr.skip(), last
        return line, html, html + line

    def act(event: gr.EventData, request: gr.Request) -> str:
        return perform(maker, event._data, language_of(request))

    shown = [summary, jobs, drawn]
    now: dict[str, Any] = {**QUIETLY, "concurrency_limit": None}
    tab.select(draw, drawn, shown, **now)
    timer.tick(draw, drawn, shown, **now)
    jobs.submit(act, None, complaint, **EVERY_PRESS).then(draw, drawn, shown, **now)
    open_job(jobs)


def queue_html(desk: Desk, cards: Cards) -> str:
    """The list: running ones, waiting ones in their order, paused ones, then those that did not come to their end."""
    running = desk.list(states=(State.RUNNING,), newest_first=False)
    paused = desk.list(states=(State.PAUSED,), newest_first=False)
    ended = desk.list(states=(State.FAILED, State.CANCELLED), limit=ENDED)
    # Between two questions a job may change its state: it is shown once, as it was seen last.
    going_on = {job.id: job for job in (*running, *desk.store.queue(), *paused)}
    over = [job for job in ended if job.id not in going_on]
    return cards.queue(going_on.values(), over)


def summary_html(desk: Desk, cards: Cards) -> str:
    """How many there are, in one line."""
    counts = desk.store.counts()
    values = {str(state): counts[state] for state in (State.RUNNING, State.QUEUED, State.PAUSED)}
    return f'<p class="it-dim" role="status">{cards.say("queue_summary", **values)}</p>'


def chosen(data: object) -> tuple[str, str]:
    """Act and job of an event of a list; empty where a browser has sent something else."""
    if not isinstance(data, Mapping):
        return "", ""
    act, job = data.get("act"), data.get("job")
    if not (isinstance(act, str) and isinstance(job, str) and _ID.fullmatch(job)):
        return "", ""
    return act, job


def perform(maker: Maker, data: object, language: str) -> str:
    """Do what a button says; returns what to tell, usually nothing. Things may have moved on since it was drawn."""
    act, job = chosen(data)
    deed = DEEDS.get(act)
    if deed is None:
        return ""
    try:
        deed(maker.desk, job)
    except InfiniteTalkError as error:
        reason = error_text(maker.texts, language, error.code, error.message)
        return alert(f"{maker.texts.say(language, 'act_failed', reason=reason)}")
    return ""


def _up(desk: Desk, job: str) -> Job | None:
    queue = [waiting.id for waiting in desk.store.queue()]
    place = queue.index(job) if job in queue else 0
    return desk.move(job, queue[place - 1]) if place else None


def _down(desk: Desk, job: str) -> Job | None:
    queue = [waiting.id for waiting in desk.store.queue()]
    place = queue.index(job) if job in queue else len(queue)
    if place + 1 >= len(queue):
        return None
    # The next one goes before it, rather than it behind the next: there may be no third one to name.
    return desk.move(queue[place + 1], job)


DEEDS: Mapping[str, Callable[[Desk, str], object]] = {
    "cancel": lambda desk, job: desk.cancel(job),
    "pause": lambda desk, job: desk.pause(job),
    "resume": lambda desk, job: desk.resume(job),
    "retry": lambda desk, job: desk.retry(job),
    "delete": lambda desk, job: desk.delete(job),
    "up": _up,
    "down": _down,
}
"""Button of a card -> what it does."""
