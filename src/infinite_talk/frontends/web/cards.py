"""Jobs as HTML: a line of progress, cards of the queue and of the gallery, players."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from html import escape

from infinite_talk.frontends.naming import video_name
from infinite_talk.frontends.web.telling import duration, error_text, number
from infinite_talk.frontends.web.texts import Texts
from infinite_talk.jobs import Job, State


class Cards:
    """What the page shows of jobs, in one language.

    Args:
        videos: address under which the HTTP interface serves them.
    """

    def __init__(self, texts: Texts, language: str, videos: str) -> None:
        self._texts, self._language, self._videos = texts, language, videos

    def say(self, key: str, **values: object) -> str:
        return self._texts.html(self._language, key, **values)

    def title(self, job: Job) -> str:
        """A name for people, as HTML."""
        return escape(job.order.title.strip()) or self.say("untitled")

    def state(self, job: Job) -> str:
        """A coloured word."""
        return f'<span class="it-state it-state-{job.state}">{self.say(f"state_{job.state}")}</span>'

    def progress(self, job: Job) -> str:
        """Everything that a person wants to know while they wait; an alert when it has failed."""
        told = job.progress
        lines = [f'<div class="it-line"><h3>{self.title(job)}</h3>{self.state(job)}</div>']
        if not job.state.ended:
            percent = max(0.0, min(100.0, told.percent))
            lines.append(
                f'<div class="it-bar" role="progressbar" aria-valuemin="0" aria-valuemax="100" '
                f'aria-valuenow="{percent:.0f}" aria-label="{self.say(f"state_{job.state}")}">'
                f'<div style="width:{percent:.1f}%"></div></div>'
            )
            lines.append(f'<div class="it-line it-dim">{self._facts(job)}</div>')
        if job.error is not None:
            said = error_text(self._texts, self._language, job.error.code, job.error.message)
            lines.append(f'<div class="it-bad" role="alert">{said}</div>')
        if job.state is State.CANCELLED:
            lines.append(f'<div class="it-dim">{self.say("stopped_cancelled")}</div>')
        if told.runs and job.state in (State.RUNNING, State.COMPLETED):
            lines.append(f'<div class="it-dim">{self.say("ran", runs=told.runs)}</div>')
        lines += [f'<div class="it-dim" lang="en">{escape(note)}</div>' for note in told.notes]
        return f'<div class="it-job" data-finished-windows="{told.window}">{"".join(lines)}</div>'

    def player(self, job: Job) -> str:
        """The finished video; before that, what can be seen of it so far; else nothing."""
        address = f"{self._videos}/{job.id}"
        if job.state is State.COMPLETED:
            return (
                f'<video class="it-player" controls playsinline preload="metadata" aria-label="{self.say("finished")}" '
                f'src="{address}/content" poster="{address}/content?variant=thumbnail"></video>'
                f'<div class="it-acts">{self.download(job)}</div>'
            )
        if job.progress.window and job.state is not State.FAILED:
            return (
                f'<p class="it-dim">{self.say("preview")}</p>'
                f'<video class="it-player" controls playsinline muted aria-label="{self.say("preview")}" '
                f'data-preview="{address}/preview"></video>'
            )
        return ""

    def download(self, job: Job) -> str:
        return (
            f'<a class="it-act" href="{self._videos}/{job.id}/content" download="{escape(video_name(job))}">'
            f"{self.say('download')}</a>"
        )

    def queue(self, waiting: Iterable[Job], rest: Iterable[Job]) -> str:
        """Cards of all jobs that are not finished: those that run or wait in their order, then the others."""
        jobs = [*waiting, *rest]
        places = sum(job.state is State.QUEUED for job in jobs)
        cards = [self._queue_card(job, places) for job in jobs]
        return "".join(cards) or f'<div class="it-empty">{self.say("queue_empty")}</div>'

    def gallery(self, jobs: Iterable[Job], words: str = "") -> str:
        """Cards of finished videos.

        Args:
            words: that were searched for.
        """
        cards = "".join(self._gallery_card(job) for job in jobs)
        if not cards:
            return f'<div class="it-empty">{self.say("gallery_none" if words.strip() else "gallery_empty")}</div>'
        return f'<div class="it-gallery">{cards}</div>'

    def _facts(self, job: Job) -> str:
        told, parts = job.progress, []
        if job.state is State.QUEUED and job.position is not None:
            parts.append(self.say("position", position=job.position))
        if job.state is State.RUNNING and told.phase is not None:
            parts.append(self.say(f"phase_{told.phase}"))
        if told.windows:
            # Counted as people count: the one being made, not those that are done.
            parts.append(
                self.say("window_of", window=min(told.window + 1, told.windows), windows=told.windows)
            )
        if told.steps and job.state is State.RUNNING:
            parts.append(self.say("step_of", step=told.step, steps=told.steps))
        if told.seconds_per_step is not None and job.state is State.RUNNING:
            parts.append(self.say("pace", seconds=number(told.seconds_per_step)))
        if told.eta is not None and job.state is State.RUNNING:
            parts.append(self.say("eta", time=duration(self._texts, self._language, told.eta)))
        if job.attempts > 1:
            parts.append(self.say("attempt", attempts=job.attempts))
        return "".join(f"<span>{part}</span>" for part in [f"{told.percent:.0f} %", *parts])

    def _queue_card(self, job: Job, places: int) -> str:
        acts = "".join(self._act(job, act) for act in acts_of(job, places))
        return self.progress(job).removesuffix("</div>") + f'<div class="it-acts">{acts}</div></div>'

    def _gallery_card(self, job: Job) -> str:
        address = f"{self._videos}/{job.id}/content"
        made = self.say("made_at", time="\0").replace("\0", _moment(job.finished or job.created))
        acts = "".join(self._act(job, act) for act in ("reuse", "delete"))
        return (
            f'<div class="it-job"><video class="it-player" controls playsinline preload="none" src="{address}" '
            f'poster="{address}?variant=thumbnail" aria-label="{self.title(job)}"></video>'
            f'<h3>{self.title(job)}</h3><div class="it-dim">{made}</div>'
            f'<div class="it-dim">{escape(job.order.request.prompt[:120])}</div>'
            f'<div class="it-acts">{self.download(job)}{acts}</div></div>'
        )

    def _act(self, job: Job, act: str) -> str:
        ask = f' data-confirm="{self.say("confirm_delete")}"' if act == "delete" else ""
        label = self.say(f"act_{act}")
        return (
            f'<button type="button" class="it-act" data-act="{act}" data-job="{job.id}"{ask} '
            f'aria-label="{label}: {self.title(job)}">{label}</button>'
        )


def _moment(when: datetime) -> str:
    """A time as HTML; the page's script says it in the visitor's own time."""
    return f'<time datetime="{when.isoformat()}">{when:%Y-%m-%d %H:%M} UTC</time>'


def acts_of(job: Job, places: int = 0) -> tuple[str, ...]:
    """What can be done with a job in its state.

    Args:
        places: how many wait in the queue; the first cannot go up, the last not down.
    """
    if job.wish is not None:
        return ()  # it is about to stop
    match job.state:
        case State.QUEUED:
            place = job.position or 0
            up, down = ("up",) if place > 1 else (), ("down",) if place < places else ()
            return ("show", *up, *down, "pause", "cancel", "delete")
        case State.RUNNING:
            return ("show", "pause", "cancel", "delete")
        case State.PAUSED:
            return ("show", "resume", "cancel", "delete")
        case State.COMPLETED:
            return ("show", "reuse", "delete")
        case _:
            return ("show", "retry", "reuse", "delete")


ACTS = """
let at = null, pressed = null;
const buttonOf = (node) => node?.closest?.('[data-act]');
const act = (button) => {
  if (button.dataset.confirm && !confirm(button.dataset.confirm)) return;
  trigger('submit', { act: button.dataset.act, job: button.dataset.job });
};
element.addEventListener('focusin', (event) => { at = buttonOf(event.target) || at; });
element.addEventListener('click', (event) => { if (buttonOf(event.target)) act(buttonOf(event.target)); });
element.addEventListener('pointerdown', (event) => { pressed = buttonOf(event.target); });
element.addEventListener('pointerup', (event) => { // drawn anew between press and release: no click comes of it
  const button = buttonOf(event.target), was = pressed;
  pressed = null;
  if (!was || was.isConnected || !button) return;
  if (button.dataset.act === was.dataset.act && button.dataset.job === was.dataset.job) act(button);
});
watch('value', () => { // the list was drawn anew: the keyboard stays where it was
  if (!at || document.activeElement !== document.body) return;
  const same = `[data-act="${at.dataset.act}"][data-job="${at.dataset.job}"]`;
  (element.querySelector(same) || element.querySelector(`[data-job="${at.dataset.job}"]`))?.focus();
});
"""
"""Script of a list with buttons: a click on one is an event ``submit`` with ``act`` and ``job``."""
