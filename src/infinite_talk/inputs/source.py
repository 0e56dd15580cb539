"""``read_source``: from a request's files to checked, decoded media."""

from __future__ import annotations

from infinite_talk.errors import InputError
from infinite_talk.inputs.audio import Sound, Track, lay_out, open_recordings, read_track
from infinite_talk.inputs.image import read_image, read_mask
from infinite_talk.inputs.scenes import find_cuts
from infinite_talk.inputs.validate import validate
from infinite_talk.inputs.video import FilmPictures, open_film
from infinite_talk.plan.buckets import choose_size, parse_size
from infinite_talk.plan.people import Mask, person_masks
from infinite_talk.request import AudioLayout, Box, Compat, Request
from infinite_talk.settings import Settings
from infinite_talk.types import Pictures, Source


def read_source(
    request: Request, settings: Settings, *, default_size: str, compat: Compat | None = None
) -> Source:
    """Check and decode everything that a request names. What is cheap to check is checked first.

    Args:
        request: what is wanted; its numbers and words are checked too (``validate``).
        settings: limits of length and pixels.
        default_size: for a request without a size, in the same form (``"480"``, ``"WxH"``).
        compat: overrides the request's.

    Returns:
        pictures, speech, soundtrack and masks on one time line. Nothing in it depends on a model. Memory does
        not grow with the length of films; speech beyond ten minutes lies in a temporary file.

    Raises:
        UsageError: options without meaning.
        InputError: a file that cannot be used; ``code`` says why in one word.
        NoSpaceError: the temporary folder is full.
    """
    validate(request)
    compat = request.compat if compat is None else compat
    rule = parse_size(request.size or default_size)
    pictures, (height, width), notes = _open_pictures(request, settings, compat)
    masks = _masks(request, height, width, settings)
    sound, remarks = read_sound(request, settings, compat=compat)
    notes += remarks
    cuts: tuple[int, ...] = ()
    if request.scene_cuts and isinstance(pictures, FilmPictures):
        cuts = find_cuts(pictures.thumbnails(sound.frames))
    return Source(
        pictures=pictures,
        source_size=(height, width),
        size=choose_size(rule, height, width),
        speech=sound.speech,
        soundtrack=sound.soundtrack,
        frames=sound.frames,
        masks=masks,
        cuts=cuts,
        notes=tuple(notes),
    )


def read_sound(
    request: Request, settings: Settings, *, compat: Compat | None = None
) -> tuple[Sound, list[str]]:
    """The recordings of a request on one time line, and notes; pictures are not looked at.

    Raises:
        InputError: a recording that cannot be used.
        NoSpaceError: the temporary folder is full.
    """
    recordings = open_recordings(
        [speaker.audio for speaker in request.speakers],
        start=request.audio_start,
        end=request.audio_end,
        max_seconds=settings.max_audio_seconds,
    )
    tracks: list[Track | None] = []
    notes: list[str] = []
    for recording in recordings:
        track, remarks = (
            (None, []) if recording is None else read_track(recording, max_seconds=settings.max_audio_seconds)
        )
        tracks.append(track)
        notes += remarks
    _check_sum(tracks, request.audio_layout, settings)
    compat = request.compat if compat is None else compat
    return lay_out(tracks, request.audio_layout, max_frames=request.max_frames, compat=compat), notes


def _open_pictures(
    request: Request, settings: Settings, compat: Compat
) -> tuple[Pictures, tuple[int, int], list[str]]:
    """The image or film of a request, its upright height and width, and notes."""
    if request.image is not None:
        image, notes = read_image(request.image, max_pixels=settings.max_pixels)
        return image, (image.picture.shape[0], image.picture.shape[1]), notes
    assert request.video is not None, "validate saw to it"
    film, notes = open_film(request.video, max_pixels=settings.max_pixels)
    return FilmPictures(film, by_index=compat is Compat.OFFICIAL), (film.height, film.width), notes


def _masks(request: Request, height: int, width: int, settings: Settings) -> Mask:
    """Masks of all people and the background, from boxes, mask images or the default places."""
    places: list[Box | Mask | None] = [
        speaker.box
        if speaker.mask is None
        else read_mask(speaker.mask, height, width, max_pixels=settings.max_pixels)
        for speaker in request.speakers
    ]
    return person_masks(height, width, places)


def _check_sum(tracks: list[Track | None], layout: AudioLayout, settings: Settings) -> None:
    """Refuse recordings that are too long together, one after the other."""
    total = float(sum(track.seconds for track in tracks if track is not None))
    if layout is AudioLayout.IN_TURN and total > settings.max_audio_seconds:
        raise InputError(
            f"The recordings last {total:.0f} s one after the other; at most "
            f"{settings.max_audio_seconds:.0f} s are accepted.",
            code="audio_too_long",
        )
