"""Whole recorded runs of the reference program, repeated by our real loop under ``compat="official"``.

What the recordings leave out is injected at its seam: encoded texts, speech features and noise. Everything
else runs as for a user: masks, windows, resizing, CLIP, VAE, transformer, guidance, caches, colour.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from infinite_talk import generate as page
from infinite_talk.denoise.caches import teacache
from infinite_talk.denoise.caches.teacache import ByCallNumber
from infinite_talk.denoise.denoiser import Denoiser, Question
from infinite_talk.models.dit import DiTConfig, WanTransformer
from infinite_talk.models.vae import VAEConfig, VideoVAE
from infinite_talk.models.vision import ImageEncoder, VisionConfig
from infinite_talk.models.vision.keys import key_map as vision_keys
from infinite_talk.plan.people import official_box, person_masks
from infinite_talk.presets import OFFICIAL, resolve
from infinite_talk.request import APG, Compat, Request, Speaker, TeaCache
from infinite_talk.rooms import Rooms
from infinite_talk.types import FPS, SPEECH_RATE, Clip, Guide, Size, Source
from infinite_talk.weights.builder import build
from tests.golden import GoldenFile, cases, sibling

NETWORK = {"atol": 2e-5, "rtol": 2e-6}  # latents grow beyond 1, where float32 has fewer decimals
COLOURED = {"atol": 5e-4, "rtol": 0}  # Lab in float32 amplifies
PROMPT, NEGATIVE = "what the person does", "what is not wanted"
LOOPS = [case for case in cases("loop_") if "weights" in case.config]


@dataclass
class Frames:
    """The recorded source; notes which frames are looked at."""

    frames: np.ndarray
    still: bool
    looked_at: list[int]

    def __getitem__(self, frame: int) -> np.ndarray:
        self.looked_at.append(min(frame, len(self.frames) - 1))
        return self.frames[self.looked_at[-1]]


class Texts:
    """A text encoder that knows two texts."""

    def __init__(self, case: GoldenFile) -> None:
        self._known = {PROMPT: case["in/context"], NEGATIVE: case["in/context_null"]}

    def encode(self, texts: list[str]) -> list[torch.Tensor]:
        return [self._known[text] for text in texts]

    def notes(self, texts: list[str]) -> tuple[str, ...]:
        return ()


class Voices:
    """A speech encoder that knows the recorded features; a waveform holds nothing but its person's number."""

    def __init__(self, case: GoldenFile) -> None:
        self._case = case

    def __call__(self, waveform: torch.Tensor, frames: int) -> torch.Tensor:
        features = self._case[f"in/audio_emb_{int(waveform[0, 0])}"]
        assert len(features) == frames
        return features[None]


@dataclass
class Record:
    """Everything a run did, window by window."""

    guides: list[Guide] = field(default_factory=list)
    calls: list[list[tuple[Question, torch.Tensor, torch.Tensor]]] = field(default_factory=list)
    decoded: list[torch.Tensor] = field(default_factory=list)
    latents: list[torch.Tensor] = field(default_factory=list)
    coloured: list[torch.Tensor] = field(default_factory=list)
    skips: list[int] = field(default_factory=list)
    moved: list[float] = field(default_factory=list)
    looked_at: list[int] = field(default_factory=list)
    clips: list[Clip] = field(default_factory=list)

    def listen_to(self, denoiser: Denoiser) -> Denoiser:
        """``denoiser``, with every question and answer written down."""
        record = self

        class Recorder:
            def condition(self, guide: Guide, branch: Any) -> Any:
                if not record.guides or record.guides[-1] is not guide:
                    record.guides.append(guide)
                    record.calls.append([])
                return denoiser.condition(guide, branch)

            def velocity(self, latent: torch.Tensor, question: Question) -> torch.Tensor:
                answer = denoiser.velocity(latent, question)
                record.calls[-1].append((question, latent, answer))
                return answer

        return Recorder()


@functools.cache
def _models(weights: Path) -> tuple[WanTransformer, VideoVAE, ImageEncoder]:
    stored = GoldenFile(weights)
    transformer = WanTransformer(DiTConfig.from_json(stored.config["dit"]))
    transformer.load_state_dict(stored.tensors("dit/"))
    vae = VideoVAE(VAEConfig.from_json(stored.config["vae"]))
    vae.load_state_dict(stored.tensors("vae/"))
    config = VisionConfig.from_json(stored.config["clip"])
    clip = stored.tensors("clip/")
    vision = build(lambda: ImageEncoder(config), vision_keys(config, clip).read(clip))
    return transformer.eval(), vae.eval(), vision


def _rooms(case: GoldenFile) -> Rooms:
    transformer, vae, vision = _models(sibling(case, case.config["weights"]).path)
    return Rooms(
        transformer, vae, Texts(case), vision, Voices(case), OFFICIAL, torch.device("cpu"), torch.float32
    )


def _source(case: GoldenFile, looked_at: list[int]) -> Source:
    config = case.config
    frames = case["in/source_frames"].numpy()
    boxes: list[Any] = [None] * config["humans"]
    if config["bbox"]:
        boxes = [official_box(numbers) for _, numbers in sorted(config["bbox"].items())]
    height, width = config["src_hw"]
    samples = [length * SPEECH_RATE // FPS + 1 for length in config["audio_lens"]]
    return Source(
        pictures=Frames(frames, config["source"] == "image", looked_at),
        source_size=(height, width),
        size=Size(*config["target_hw"]),
        speech=tuple(np.full(count, person, np.float32) for person, count in enumerate(samples)),
        soundtrack=None,  # not heard by the models
        frames=max(config["audio_lens"]),
        masks=person_masks(height, width, boxes),
    )


def _request(case: GoldenFile) -> Request:
    config = case.config
    apg = APG(momentum=config["apg_momentum"], norm_threshold=config["apg_norm_threshold"])
    cache = None
    if config["teacache_thresh"] is not None:
        coefficients = _coefficients(config["teacache_rel_and_poly"])
        cache = TeaCache(threshold=config["teacache_thresh"], coefficients=coefficients)
    request = Request(
        image=Path("portrait.png"),
        speakers=(Speaker(audio=None),) * config["humans"],
        prompt=PROMPT,
        negative_prompt=NEGATIVE,
        steps=config["steps"],
        shift=config["shift"],
        text_guidance=config["text_guide_scale"],
        audio_guidance=config["audio_guide_scale"],
        apg=apg if config["use_apg"] else None,
        step_cache=cache,
        window_frames=config["frame_num"],
        motion_frames=config["motion_frame"],
        max_frames=config["max_frames_num"],
        colour_strength=config["color_correction_strength"],
        compat=Compat.OFFICIAL,
    )
    return resolve(request, OFFICIAL)


def _coefficients(measured: list[tuple[float, float]]) -> tuple[float, ...]:
    """Which of the official polynomials was recorded; the metadata says only what it gave."""

    def error(polynomial: tuple[float, ...]) -> float:
        return sum(abs(float(np.polyval(polynomial, moved)) - value) for moved, value in measured)

    return min((OFFICIAL.step_cache, OFFICIAL.large_step_cache), key=error)


@functools.cache
def _run(path: Path) -> Record:
    """Our loop over one case, recorded."""
    case, record = GoldenFile(path), Record()
    with pytest.MonkeyPatch.context() as patch:
        _record_parts(patch, record)
        noise = lambda window, shape: case[f"in/noise_{window.index}"].reshape(shape)  # noqa: E731
        source = _source(case, record.looked_at)
        record.clips += page.generate(_request(case), source, _rooms(case), noise=noise)
    return record


def _record_parts(patch: pytest.MonkeyPatch, record: Record) -> None:
    """Write down what passes between the parts of the page; the parts themselves stay the real ones."""
    make, decode, match = page.denoiser_for, Rooms.decode_video, page.match_colour
    count, measure = ByCallNumber.next, teacache.distances

    def next_call(self: ByCallNumber, *asked: Any) -> Any:
        decision = count(self, *asked)
        record.skips.append(int(decision.skip))
        return decision

    def distances(*args: Any) -> Any:
        distance = measure(*args)

        def noted(step: int, earlier: int) -> float:
            record.moved.append(distance(step, earlier))
            return record.moved[-1]

        return noted

    def decode_video(rooms: Rooms, latent: torch.Tensor) -> torch.Tensor:
        record.latents.append(latent)
        record.decoded.append(decode(rooms, latent))
        return record.decoded[-1]

    def match_colour(*args: Any) -> torch.Tensor:
        record.coloured.append(match(*args))
        return record.coloured[-1]

    patch.setattr(page, "denoiser_for", lambda *args: record.listen_to(make(*args)))
    patch.setattr(Rooms, "decode_video", decode_video)
    patch.setattr(page, "match_colour", match_colour)
    patch.setattr(ByCallNumber, "next", next_call)
    patch.setattr(teacache, "distances", distances)


def _chunks(case: GoldenFile) -> range:
    return range(case.config["chunks"])


every_loop = pytest.mark.parametrize("case", LOOPS, ids=lambda case: case.name)


@every_loop
def test_windows_and_source_frames(case: GoldenFile) -> None:
    record = _run(case.path)
    asked, used = zip(*case.config["frame_reads_requested_used"][: case.config["chunks"]], strict=True)
    assert [clip.window.reference for clip in record.clips] == list(asked)
    colours, *seen = record.looked_at
    assert colours == 0
    assert seen == (list(used[:1]) if case.config["source"] == "image" else list(used))


@every_loop
def test_guides(case: GoldenFile) -> None:
    for chunk, guide in zip(_chunks(case), _run(case.path).guides, strict=True):
        torch.testing.assert_close(guide.reference[None], case[f"mid/chunk{chunk}.y"], **NETWORK)
        torch.testing.assert_close(guide.image[None], case[f"mid/chunk{chunk}.clip_fea"], **NETWORK)
        assert torch.equal(guide.speech, case[f"mid/chunk{chunk}.audio"])
        _assert_masks(guide.token_masks, case[f"mid/chunk{chunk}.ref_target_masks"])
        motion = case[f"mid/chunk{chunk}.motion_latents"]
        torch.testing.assert_close(guide.motion, motion, **(COLOURED if _coloured(case, chunk) else NETWORK))


def _assert_masks(ours: torch.Tensor, recorded: torch.Tensor) -> None:
    if len(ours) == 2:  # one person: the reference repeats the mask to make three
        ours = torch.cat([ours[:1], ours])
    assert torch.equal(ours.float(), recorded.float())


def _coloured(case: GoldenFile, chunk: int) -> bool:
    """Whether what this chunk sees has gone through the colour correction, which amplifies rounding."""
    return chunk > 0 and case.config["color_correction_strength"] > 0


@every_loop
def test_every_step_and_branch(case: GoldenFile) -> None:
    record, config = _run(case.path), case.config
    for chunk in _chunks(case):
        limits = COLOURED if _coloured(case, chunk) else NETWORK
        calls = record.calls[chunk]
        width = config["forwards_per_step"]
        assert len(calls) == width * config["steps"]
        for number, (question, latent, velocity) in enumerate(calls):
            step, branch = divmod(number, width)
            name = f"mid/chunk{chunk}.step{step}"
            assert (question.step, question.branch) == (step, config["branch_order"][branch])
            torch.testing.assert_close(question.time[0], case[f"mid/chunk{chunk}.t"][step], atol=1e-4, rtol=0)
            torch.testing.assert_close(latent, case[f"{name}.model_in"], **limits)
            torch.testing.assert_close(velocity, case[f"{name}.pred{branch}"], **limits)
        torch.testing.assert_close(record.latents[chunk], case[f"out/chunk{chunk}.latent"], **limits)
        if (name := f"out/chunk{chunk}.decoded") in case:
            torch.testing.assert_close(record.decoded[chunk], case[name], **limits)


@every_loop
def test_video(case: GoldenFile) -> None:
    record, expected = _run(case.path), case["out/video"]
    parts = []
    for clip, video in zip(record.clips, record.coloured, strict=True):
        window = clip.window
        parts.append(video[:, window.overlap : window.overlap + window.new])
        truncated = ((parts[-1] + 1) / 2 * 255).to(torch.uint8).permute(1, 2, 3, 0)
        assert torch.equal(clip.frames, truncated)
    video = torch.cat(parts, dim=1)
    assert video.shape == expected.shape
    limits = COLOURED if case.config["color_correction_strength"] > 0 else NETWORK
    torch.testing.assert_close(video, expected, **limits)


@every_loop
def test_skipped_calls(case: GoldenFile) -> None:
    record = _run(case.path)
    assert record.skips == case.config["teacache_skips"]
    measured = case.config["teacache_rel_and_poly"] or []
    assert record.moved == pytest.approx([moved for moved, _ in measured], rel=1e-4)
