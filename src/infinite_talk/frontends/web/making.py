"""``Maker``: what the tab Create does, without its components: look at files, estimate, hand in, show a job."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from infinite_talk import InfiniteTalkError, Request, Settings
from infinite_talk.frontends.presets import Preset, apply_preset
from infinite_talk.frontends.web.files import uploaded
from infinite_talk.frontends.web.finding import Findings, picture_html, sound_html
from infinite_talk.frontends.web.form import FILES, Form, FormError, request_of
from infinite_talk.frontends.web.options import FPS, Estimate, PageOptions
from infinite_talk.frontends.web.telling import alert, amount, duration, error_text, length, told
from infinite_talk.frontends.web.texts import Texts
from infinite_talk.jobs import Checked, Job, State
from infinite_talk.jobs.desk import DEFAULT, Desk, Draft
from infinite_talk.jobs.node_options import NodeOptions

PIECE = 1 << 20
"""Bytes of a file that are in memory at a time."""
STILL = 0.5
"""Seconds that a film may be too short before it is said: its last picture stands so long."""


class Maker:
    """Answers the tab Create. Holds no model and decodes nothing; safe for several threads."""

    def __init__(self, desk: Desk, options: PageOptions) -> None:
        self.desk, self.options = desk, options
        self.texts, self.findings = Texts.load(), Findings(options.checker)
        self.more: dict[str, Any] = {}
        """Components that ``PageOptions.more`` has added to the form, by name."""

    def uploaded(self, path: object) -> Path | None:
        """A path that a browser sent, if it is of an upload; see ``files.uploaded``."""
        return uploaded(path, self.options.uploads)

    def form(self, values: Sequence[Any]) -> Form:
        """The form, of the values of all its fields in order.

        Raises:
            InputError: ``file_outside``.
        """
        form = Form.of(tuple(values[: len(Form.names())]))
        files: dict[str, Any] = {name: self.uploaded(getattr(form, name)) for name in FILES}
        return replace(form, **files)

    def _extras(self, values: Sequence[Any]) -> Mapping[str, Any]:
        """What the added fields say, as arguments of ``Desk.submit``."""
        if self.options.more is None:
            return {}
        return self.options.more.arguments(dict(zip(self.more, values[len(Form.names()) :], strict=True)))

    def found_picture(self, path: Path, size: str | None, language: str) -> str:
        """What an image or a film is, as HTML.

        Raises:
            InputError, UsageError: what is wrong with it.
        """
        wanted = (size or "").strip() or None
        return picture_html(self.texts, language, path, self.findings.picture(path, wanted), wanted)

    def found_sound(self, path: Path, trim: tuple[float, float | None], language: str) -> str:
        """What a recording is, as HTML.

        Raises:
            InputError: what is wrong with it.
        """
        return sound_html(self.texts, language, self.findings.sound(path, *trim))

    def settings(self, profile: str) -> Settings:
        """What a profile stands for now.

        Raises:
            UsageError: there is none of this name.
        """
        known = self.desk.store.profiles()
        if profile and profile not in known:
            raise FormError("unknown_profile", name=profile[:60])
        return known.get(profile or DEFAULT, Settings())

    def wanted(self, form: Form, options: NodeOptions) -> tuple[Request, Settings | str]:
        """The request with absolute paths, and how it runs: a profile's name, or settings where a preset says more.

        Raises:
            FormError, UsageError, InputError: what is missing or wrong.
        """
        film = form.picture is not None and self.findings.picture(form.picture, size_of(form)).moving
        request = request_of(form, film=film)
        settings = self.settings(form.profile)
        request, changed = apply_preset(Preset(form.preset), request, settings, options)
        return request, changed if changed != settings else form.profile

    def submit(self, values: Sequence[Any]) -> Job:
        """Hand a video in, of the values of all fields; it is on the disk when this returns.

        Raises:
            InfiniteTalkError: what is missing, wrong, or more than is accepted.
        """
        form = self.form(values)
        extras = self._extras(values)
        request, settings = self.wanted(form, extras.get("options", NodeOptions()))
        with self.desk.draft() as draft:
            return self.desk.submit(
                draft,
                _moved_in(request, draft),
                settings=settings,
                title=form.title.strip() or _title(form),
                extra={"preset": form.preset},
                **extras,
            )

    def can_estimate(self, values: Sequence[Any]) -> bool:
        """Whether there are a picture and a voice, so that there is something to reckon."""
        form = Form.of(tuple(values[: len(Form.names())]))
        return bool(form.picture and form.voice)

    def estimate(self, values: Sequence[Any], language: str) -> str:
        """What will be made and how long it takes, as HTML; a hint while something is missing."""
        try:
            form = self.form(values)
        except InfiniteTalkError as error:
            return told(self.texts, language, error)
        about = _dim(self.texts.html(language, f"preset_{Preset(form.preset).name.lower()}_help"))
        return about + self._outlook(form, values, language)

    def _outlook(self, form: Form, values: Sequence[Any], language: str) -> str:
        if form.picture is None or form.voice is None:
            return _dim(self.texts.html(language, "estimate_later"))
        try:
            options = self._extras(values).get("options", NodeOptions())
            # Another seed changes nothing of it, and -1 would be another question each time.
            request, settings = self.wanted(replace(form, seed=0), options)
            options.check(request)
            guess = self._guess(form, request, settings, options)
            self.desk.limits.check(_checked(guess))
        except FormError as error:
            return _warning(self.texts.html(language, error.code, **error.values))
        except InfiniteTalkError as error:
            return _warning(error_text(self.texts, language, error.code, error.message))
        lines = [_dim(self._estimated(guess, language))]
        film = self.findings.picture(form.picture, size_of(form))
        if film.moving and film.seconds is not None and film.seconds < guess.video_seconds - STILL:
            shorter = guess.video_seconds - film.seconds
            still = length(self.texts, language, shorter)
            lines.append(_warning(self.texts.html(language, "film_short", seconds=still)))
        if waiting := self._waiting():
            lines.append(_dim(self.texts.html(language, "estimate_queue", count=waiting)))
        return "".join(lines)

    def _guess(
        self, form: Form, request: Request, settings: Settings | str, options: NodeOptions
    ) -> Estimate:
        if self.options.estimate is not None:
            return self.options.estimate(request, settings, self.findings, options)
        assert form.picture is not None and form.voice is not None
        picture = self.findings.picture(form.picture, size_of(form))
        start, end = trim_of(form)
        seconds = self.findings.sound(form.voice, start, end).seconds
        return Estimate(picture.output_width, picture.output_height, seconds)

    def _estimated(self, guess: Estimate, language: str) -> str:
        seconds = length(self.texts, language, guess.video_seconds)
        values = {"seconds": seconds, "width": guess.width, "height": guess.height}
        if guess.seconds is None or guess.memory is None:
            return self.texts.html(language, "estimate_size", **values)
        time = duration(self.texts, language, guess.seconds)
        return self.texts.html(language, "estimate", time=time, memory=amount(guess.memory), **values)

    def _waiting(self) -> int:
        counts = self.desk.store.counts()
        return counts[State.QUEUED] + counts[State.RUNNING]

    def complaint(self, error: InfiniteTalkError, language: str) -> str:
        """Why a form was not handed in, as an alert."""
        if isinstance(error, FormError):
            return alert(self.texts.html(language, error.code, **error.values))
        return told(self.texts, language, error)

    def sample(self, file: Path) -> Path:
        """A copy of a sample among the uploads, as only those are ever read."""
        folder = self.options.uploads / "samples"
        folder.mkdir(parents=True, exist_ok=True)
        copy = folder / file.name
        if not copy.is_file() or copy.stat().st_size != file.stat().st_size:
            part = copy.with_suffix(".part")
            part.write_bytes(file.read_bytes())
            part.replace(copy)
        return copy


def size_of(form: Form) -> str | None:
    """The size that a form names."""
    return form.size.strip() or None


def trim_of(form: Form) -> tuple[float, float | None]:
    """Start and end of the recordings in seconds."""
    return float(form.trim_start), float(form.trim_end) or None


def _moved_in(request: Request, draft: Draft) -> Request:
    """The request with its files copied into the draft's folder."""

    def add(role: str, path: Path | None) -> Path | None:
        return None if path is None else Path(draft.add(role, _pieces(path), name=path.name).path)

    speakers = [
        replace(
            speaker,
            audio=add("audio" if first else "audio2", speaker.audio),
            mask=add("mask" if first else "mask2", speaker.mask),
        )
        for first, speaker in zip((True, False), request.speakers, strict=False)
    ]
    return replace(
        request,
        image=add("image", request.image),
        video=add("video", request.video),
        speakers=tuple(speakers),
    )


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            yield piece


def _title(form: Form) -> str:
    """A name for people, from what they called their files."""
    names = [path.stem for path in (form.picture, form.voice) if path is not None]
    return " · ".join(name[:40] for name in names)


def _checked(guess: Estimate) -> Checked:
    """An estimate as limits look at it."""
    frames = round(guess.video_seconds * FPS)
    return Checked(width=guess.width, height=guess.height, frames=frames, seconds=guess.video_seconds)


def _dim(html: str) -> str:
    return f'<p class="it-dim">{html}</p>'


def _warning(html: str) -> str:
    return f'<div class="it-found it-warn">{html}</div>'
