"""FlowEdit (Kulikov et al., arXiv 2412.08629): from a video to another one without noise of its own in between.

At each step the video and what has become of it are given the same fresh noise. The model is asked for the first with
the source's words and for the second with the target's; the difference of the two velocities moves the edit. The
first steps, which would change the layout, are left out; the last ones may be plain sampling, which lets details
drift from the source.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from infinite_talk.denoise.denoiser import Denoiser, Question, answers
from infinite_talk.denoise.guidance import Branch, Guidance
from infinite_talk.denoise.keeping import Keep, Motion, noised
from infinite_talk.denoise.loop import OnStep, Walked, ignore
from infinite_talk.denoise.sampler import Sampler
from infinite_talk.denoise.stepwise import Stepwise
from infinite_talk.errors import NumericalError, UsageError
from infinite_talk.models.dit import Condition
from infinite_talk.sampling import FlowEdit, GuidanceChoice, Sampling, ScheduleChoice
from infinite_talk.types import Guide


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """The source or the target of an edit: what the model is told, and a denoiser of its own (a step cache or
    context windows remember what they were asked)."""

    denoiser: Denoiser
    guide: Guide

    def conditions(self, *rules: Guidance) -> dict[Branch, Condition]:
        branches = {branch: None for rule in rules for branch in rule.branches}
        return {branch: self.denoiser.condition(self.guide, branch) for branch in branches}


def drift_schedule(sampling: Sampling) -> ScheduleChoice:
    """The schedule of the plain steps at the end: the same one with a shift of its own."""
    edit = sampling.flow_edit or FlowEdit()
    return replace(sampling.schedule, shift=edit.drift_shift)


@torch.inference_mode()
def flow_edit(
    source: Side,
    target: Side,
    sampler: Sampler,
    video: torch.Tensor,
    draw: Callable[[int], torch.Tensor],
    *,
    drift: Sampler | None = None,
    on_step: OnStep = ignore,
    keep: Keep | None = None,
) -> Walked:
    """The edit of ``video`` ``(16, T, h, w)``.

    For each step ``i`` from ``skip_steps`` on, with noise ``e`` drawn for it and ``s`` the share of noise:
    ``z = (1 - s) video + s e`` and ``z' = edit + z - video``; the edit moves by ``(s' - s) (v'(z') - v(z))``. For the
    last ``drift_steps`` it becomes ``z'`` once and is then sampled plainly, on ``drift``'s steps.

    The target's guidance is the sampler's, in the plain steps ``drift_text``; the source's is ``source_text``. (The
    node pack guides the edit itself by ``drift_cfg``, and never the plain steps.)

    Args:
        draw: noise of the video's shape for a step.
        drift: of ``drift_schedule``; ``None``: the sampler itself.
        keep: what is known of the edit, see ``keeping.py``.

    Raises:
        UsageError: no step is left, or the video has another shape than the window.
        NumericalError: the result is not finite.
    """
    assert sampler.sampling is not None and sampler.sampling.flow_edit is not None
    choice, guided = sampler.sampling.flow_edit, sampler.sampling.guidance
    _check(choice, sampler.steps, video, target.guide)
    device = target.guide.motion.device
    switch = sampler.steps - choice.drift_steps
    theirs = Stepwise(_scaled(guided, choice.source_text), sampler.steps)
    ours = Stepwise(guided, sampler.steps)
    plain = Stepwise(_scaled(guided, choice.drift_text), sampler.steps)
    before, after = source.conditions(theirs), target.conditions(ours, plain)
    kept = Motion(target.guide.motion) if keep is None else keep
    video = video.float().to(device)
    edit, estimate = video, video
    walkers = [sampler] * switch + [drift or sampler] * choice.drift_steps
    for step in range(choice.skip_steps, sampler.steps):
        walker, drifting = walkers[step], step >= switch
        time, sigma, following = walker.times_on(device)[step], walker.sigmas[step], walker.sigmas[step + 1]
        if not drifting or step == switch:
            noisy = noised(video, draw(step).float().to(device), sigma)
            ahead = edit + noisy - video
            if drifting:
                edit = kept(ahead, step - 1, sigma)
        shown = edit if drifting else ahead
        velocity = _answer(target.denoiser, plain if drifting else ours, shown, step, time, after)
        moved = velocity
        if not drifting:
            moved = velocity - _answer(source.denoiser, theirs, noisy, step, time, before)
        estimate = shown - sigma * velocity
        edit = kept(edit + (following - sigma) * moved, step, following if drifting else 0.0)
        on_step(step)
    if not bool(torch.isfinite(edit).all()):
        raise NumericalError(
            "FlowEdit produced NaN or infinite values. Use less guidance or a higher precision."
        )
    return Walked(edit, estimate)


def _answer(
    denoiser: Denoiser,
    guidance: Guidance,
    latent: torch.Tensor,
    step: int,
    time: torch.Tensor,
    conditions: dict[Branch, Condition],
) -> torch.Tensor:
    rule = guidance.at(step)
    if not rule.branches:
        return torch.zeros_like(latent)
    questions = [Question(step, time, branch, conditions[branch]) for branch in rule.branches]
    return rule.combine(answers(denoiser, latent, questions))


def _scaled(guided: GuidanceChoice, text: tuple[float, ...]) -> GuidanceChoice:
    return replace(guided, text=text)


def _check(choice: FlowEdit, steps: int, video: torch.Tensor, guide: Guide) -> None:
    if choice.skip_steps >= steps:
        raise UsageError(
            f"FlowEdit skips {choice.skip_steps} of {steps} steps, so that none is left; choose more steps or a "
            f"smaller skip_steps."
        )
    if choice.drift_steps > steps - choice.skip_steps:
        raise UsageError(
            f"FlowEdit has {steps - choice.skip_steps} steps after skip_steps, fewer than drift_steps "
            f"{choice.drift_steps}; choose fewer drift_steps."
        )
    if tuple(video.shape) != guide.latent_shape:
        raise UsageError(
            f"The samples are a latent of {tuple(video.shape)}, the window is one of {guide.latent_shape}; encode a "
            f"video of the same size and length."
        )
