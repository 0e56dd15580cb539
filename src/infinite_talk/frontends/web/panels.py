"""``Panels``: what the tabs Models, Quality and Compare share, and the estimate of the tab Create."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from infinite_talk import AudioLayout, InfiniteTalkError, Request, Settings, UsageError
from infinite_talk.frontends.web.finding import Findings
from infinite_talk.frontends.web.node_fields import node_fields
from infinite_talk.frontends.web.options import FPS, Estimate, PageOptions, Section
from infinite_talk.frontends.web.texts import Texts
from infinite_talk.jobs import Job, State
from infinite_talk.jobs.adviser import Adviser, ModelFile
from infinite_talk.jobs.desk import DEFAULT, Desk
from infinite_talk.jobs.node_options import NodeOptions

QUIETLY: dict[str, Any] = {"api_visibility": "private", "show_progress": "minimal"}
"""For handlers: no endpoint for programs, which have the HTTP interface."""
SHOWN = 50
"""Finished jobs that can be chosen; the newest ones."""


@dataclass(frozen=True, slots=True)
class Panels:
    """Holds no model; safe for several threads."""

    desk: Desk
    adviser: Adviser
    base: Settings
    """The server's own settings: models folders, limits, and the model of orders that name no profile."""
    videos: str = "/v1/videos"
    """Where the HTTP interface serves jobs, as seen from the browser."""

    @property
    def texts(self) -> Texts:
        return Texts.load()

    def added_to(self, options: PageOptions) -> PageOptions:
        """The page with these tabs, the estimate, and the options that only the nodes have."""
        more = node_fields(self.texts)
        return replace(
            options, estimate=self.estimate, more=more, sections=(*options.sections, *self.sections())
        )

    def sections(self) -> tuple[Section, ...]:
        """The tabs, for ``PageOptions.sections``."""
        from infinite_talk.frontends.web import compare, models, quality

        return (
            Section("compare", "tab_compare", lambda *_: compare.build(self)),
            Section("models", "tab_models", partial(models.build, self), every=models.EVERY),
            Section("quality", "tab_quality", lambda *_: quality.build(self)),
        )

    # Settings by name, for ``PageOptions.settings`` and ``profiles``.

    def settings(self, name: str) -> Settings:
        """Settings of a profile; ``""`` and ``default``: the profile of that name, else the server's own.

        Raises:
            UsageError: there is no such profile.
        """
        known = self.desk.store.profiles()
        if (name or DEFAULT) in known:
            return known[name or DEFAULT]
        if name in ("", DEFAULT):
            return self.base
        raise UsageError(f"There are no settings named {name!r} here.", code="unknown_profile")

    def profiles(self) -> tuple[str, ...]:
        """Names that can be chosen, beside the server's own."""
        return tuple(sorted(name for name in self.desk.store.profiles() if name != DEFAULT))

    # Files

    def files(self) -> tuple[ModelFile, ...]:
        """What lies in the models folders."""
        return self.adviser.files(self.base.models_dirs) if self.base.models_dirs else ()

    def known(self, files: Sequence[ModelFile]) -> set[str]:
        """Paths that a profile may name."""
        own = [self.base.model, *self.base.models_dirs, *self.base.files.transformer]
        own += [
            getattr(self.base.files, part)
            for part in ("adapter", "vae", "tiny_vae", "text", "vision", "speech")
        ]
        own += [lora.path for lora in self.base.loras]
        return {str(path) for path in own if path is not None} | {one.path for one in files}

    # Estimates

    def estimate(
        self, request: Request, settings: Settings | str, look: Findings, options: NodeOptions
    ) -> Estimate:
        """Time and memory of a request; for ``PageOptions.estimate``.

        Raises:
            InfiniteTalkError: what is wrong with the media, or why the run does not fit.
        """
        chosen = self.settings(settings) if isinstance(settings, str) else settings
        source = request.image or request.video
        assert source is not None, "the form asks for a picture first"
        picture = look.picture(source, request.size)
        spoken = [
            look.sound(one.audio, request.audio_start, request.audio_end).seconds
            for one in request.speakers
            if one.audio is not None
        ]
        seconds = sum(spoken) if request.audio_layout is AudioLayout.IN_TURN else max(spoken, default=0.0)
        size = f"{picture.output_width}x{picture.output_height}!"
        # The forecast counts 25 pictures a second; the work is that of the pictures, whatever their pace.
        frames = min(seconds * options.fps, options.audio_frames or math.inf)
        found = self.adviser.forecast(request, chosen, size=size, seconds=frames / FPS)
        length = found.video_seconds * FPS / options.fps
        return Estimate(found.width, found.height, length, found.seconds, found.memory)

    # Jobs

    def finished(self) -> list[tuple[str, str]]:
        """Titles and ids of finished jobs, newest first."""
        jobs = self.desk.list(states=(State.COMPLETED,), limit=SHOWN)
        return [(label(job), job.id) for job in jobs]

    def finished_field(self, key: str, **options: Any) -> gr.Dropdown:  # noqa: ANN401 - of ``gr.Dropdown``
        """A list of finished jobs, looked up again when it is opened."""
        field = gr.Dropdown(self.finished(), value=None, label=self.texts.label(key), **options)
        field.focus(
            lambda: gr.update(choices=self.finished()),
            None,
            field,
            api_visibility="private",
            show_progress="hidden",
        )
        return field

    def video(self, job: str) -> tuple[Job, Path]:
        """A finished job and its video.

        Raises:
            JobActionError: there is no such job. InputError: it has no video any more.
        """
        found = self.desk.get(job)
        path = self.desk.video(found)
        if path is None or not path.is_file():
            raise InfiniteTalkError(f"Job {job} has no video here.", code="video_gone")
        return found, path


def label(job: Job) -> str:
    """How a list names a job."""
    made = (job.finished or job.created).strftime("%m-%d %H:%M")
    return f"{job.order.title or job.id[:14]} · {made}"


__all__ = ["QUIETLY", "Panels", "label"]
