"""``Sampling``: how a window is walked from noise to picture, for those who ask for more than a ``Request`` offers.

What the node system makes of its arguments (``nodes/``), and what ``denoise/`` runs. Formulas and their sources are in
the modules of ``denoise/`` that implement them. Shares of a run (``start``, ``end``) are 0..1 of its steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """The part of a run in which something acts: steps ``i`` of ``n`` with ``start <= i / n <= end``."""

    start: float = 0.0
    end: float = 1.0

    def holds(self, step: int, steps: int) -> bool:
        """Whether ``step`` (from 0) of ``steps`` is in it."""
        return self.start <= step / steps <= self.end


WHOLE = Share()


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleChoice:
    """Which times a window visits, and which solver walks between them."""

    name: str = "multitalk"
    steps: int = 4
    shift: float = 5.0
    start: int | float = 0
    """First step; a float is a threshold: the first step whose sigma is at most this."""
    end: int | float = -1
    """Step before which to stop, -1: none; a float is a threshold: the last step whose sigma is at least this."""
    denoise_strength: float = 1.0
    sigmas: tuple[float, ...] | None = None
    """Instead of the schedule's own: steps + 1 of them, falling."""
    enhance_hf: bool = False
    """Keep the noisy half of the schedule and walk the rest in even steps."""
    shift_once: bool = False
    """Shift the grid once where the node pack shifts twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuidanceChoice:
    """Scales of the guidance by step, and what is done to its difference.

    The last number of a list holds on. ``audio`` is the node pack's ``audio_cfg_scale``, a factor inside the text
    guidance; the official ``audio_guide_scale`` is ``text * audio`` where the text is guided, and the same without.
    """

    text: tuple[float, ...] = (1.0,)
    audio: tuple[float, ...] = (1.0,)
    official_audio: bool = False
    """``audio`` holds official ``audio_guide_scale``s, which ``denoise/stepwise.py`` converts."""
    batched: bool = False
    """Ask the branches of a step as one batch."""
    zero_star: bool = False
    """CFG-Zero*: scale the unconditional answer to the conditional one before they are subtracted."""
    zero_steps: int = 0
    """With ``zero_star``: this many first steps do not move at all (zero-init)."""
    fresca: FreSca | None = None
    tangential: bool = False
    """TCFG: keep of the unconditional answer only what lies along the conditional one."""
    raag_alpha: float = 0.0
    """RAAG: weaken the guidance where the answers differ much; 0 is off."""
    face: tuple[float, ...] = (1.0,)
    """Scale of the face that an adapter follows (FantasyPortrait), which costs a pass of its own; 1 is none."""
    face_share: Share = WHOLE


@dataclass(frozen=True, slots=True, kw_only=True)
class FreSca:
    """FreSca: different scales for low and high frequencies of the guidance's difference."""

    low: float = 1.0
    high: float = 1.25
    cutoff: int = 20
    """Half the side of the square of low frequencies, in latent cells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRescaling:
    """Temporal score rescaling (TSR): factor and noise level at which it acts."""

    k: float = 0.95
    sigma: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EnhanceAVideo:
    """Enhance-A-Video (FETA): more weight for the attention between frames."""

    weight: float = 2.0
    share: Share = WHOLE


@dataclass(frozen=True, slots=True, kw_only=True)
class SkipLayers:
    """Skip-layer guidance: blocks that the unconditional pass leaves out."""

    blocks: tuple[int, ...] = (10,)
    share: Share = Share(start=0.1)


@dataclass(frozen=True, slots=True, kw_only=True)
class NormalisedAttention:
    """Normalised attention guidance (NAG) in the attention to the text."""

    scale: float = 11.0
    tau: float = 2.5
    alpha: float = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Positions:
    """Changes of the rotary positions."""

    riflex: int = 0
    """RIFLEx: which frequency of the time axis is stretched, from 1; 0 is none."""
    ntk: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """NTK: factor of the base for time, height and width."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextWindows:
    """One latent longer than the model takes, asked in overlapping stretches. All numbers in latent frames."""

    schedule: Literal["uniform_standard", "uniform_looped", "static_standard"] = "uniform_standard"
    frames: int = 21
    stride: int = 1
    overlap: int = 4
    free_noise: bool = True
    fuse: Literal["linear", "pyramid"] = "linear"


@dataclass(frozen=True, slots=True, kw_only=True)
class MobiusLoop:
    """A video whose end continues at its beginning: the latent is shifted in time at every step."""

    shift_skip: int = 6
    share: Share = WHOLE


@dataclass(frozen=True, slots=True, kw_only=True)
class FreeInit:
    """FreeInit: sample several times, each time from noise with the low frequencies of the result before."""

    iterations: int = 3
    method: Literal["butterworth", "ideal", "gaussian", "none"] = "ideal"
    n: int = 4
    d_s: float = 1.0
    d_t: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowEdit:
    """FlowEdit: walk from a video to another by the difference of two velocities."""

    skip_steps: int = 4
    drift_steps: int = 0
    drift_shift: float = 3.0
    source_text: tuple[float, ...] = (6.0,)
    drift_text: tuple[float, ...] = (6.0,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """All of it. A plain ``Sampling()`` is the four-step schedule without guidance."""

    schedule: ScheduleChoice = ScheduleChoice()
    guidance: GuidanceChoice = GuidanceChoice()
    positions: Positions = Positions()
    enhance: EnhanceAVideo | None = None
    skip_layers: SkipLayers | None = None
    nag: NormalisedAttention | None = None
    score_rescaling: ScoreRescaling | None = None
    context: ContextWindows | None = None
    loop: MobiusLoop | None = None
    free_init: FreeInit | None = None
    flow_edit: FlowEdit | None = None
    bidirectional: bool = False
    """Ask also with time running backwards, and take the mean (WanFM)."""
    split_attention_steps: tuple[int, ...] = ()
    """Steps in which the frames of each of several prompts attend only to each other."""
    speech_scale: float = 1.0
    """Weight of what the speech adds in each block."""
