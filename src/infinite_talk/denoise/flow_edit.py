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
from infinite_talk.denoise.face import rules_of
from infinite_talk.denoise.guidance import Branch, Guidance
from infinite_talk.denoise.keeping import Keep, Motion, noised
from infinite_talk.denoise.loop import OnStep, Walked, ignore
from infinite_talk.denoise.sampler import Sampler
from infinite_talk.errors import NumericalError, UsageError
from infinite_talk.sampling import FlowEdit, GuidanceChoice, Sampling, ScheduleChoice
from infinite_talk.types import Guide


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """The source or the target of an edit: what the model is told, and a denoiser of its own (a step cache or
    context windows remember what they were asked)."""

    denoiser: Denoiser
    guide: Guide


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
    last ``drift_steps`` it becomes ``z'`` once and is then sampled plainly, on ``drift``'s steps. All steps are
    straight (Euler) whatever solver the schedule has: the method is made for them.

    The target's guidance is the sampler's, in the plain steps ``drift_text``; the source's is ``source_text``. (The
    node pack guides the edit itself by ``drift_cfg``, and never the plain steps.)

    Args:
        draw: noise of the video's shape for a step.
        drift: of ``drift_schedule``; ``None``: the sampler itself.
        keep: what is known of the edit, see ``keeping.py``.

    Raises:
        UsageError: no step is left, the video has another shape than the window, or FreeInit is asked for too.
        NumericalError: the result is not finite.
    """
    assert sampler.sampling is not None and sampler.sampling.flow_edit is not None
    choice, guided = sampler.sampling.flow_edit, sampler.sampling.guidance
    _check(sampler.sampling, choice, sampler.steps, video, target.guide)
    device, steps = target.guide.motion.device, sampler.steps
    theirs = _Asked(source, rules_of(_scaled(guided, choice.source_text), steps))
    ours = _Asked(target, rules_of(guided, steps))
    kept = Motion(target.guide.motion) if keep is None else keep
    video = video.float().to(device)
    run = _Run(video, draw, kept, on_step)
    walked = run.edit(ours, theirs, sampler, range(choice.skip_steps, steps - choice.drift_steps))
    if choice.drift_steps:
        plain = _Asked(target, rules_of(_scaled(guided, choice.drift_text), steps))
        walked = run.drift(plain, drift or sampler, range(steps - choice.drift_steps, steps), walked.latent)
    if not bool(torch.isfinite(walked.latent).all()):
        raise NumericalError(
            "FlowEdit produced NaN or infinite values. Use less guidance or a higher precision."
        )
    return walked


def branches_of(sampling: Sampling, steps: int) -> tuple[frozenset[Branch], frozenset[Branch]]:
    """What an edit asks about the target, in its plain steps too, and about the source."""
    edit, guided = sampling.flow_edit or FlowEdit(), sampling.guidance
    scales = [guided.text, *([edit.drift_text] if edit.drift_steps else [])]
    ours = (rules_of(_scaled(guided, text), steps).branches for text in scales)
    theirs = rules_of(_scaled(guided, edit.source_text), steps).branches
    return frozenset(branch for asked in ours for branch in asked), frozenset(theirs)


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """One edit; its two parts."""

    video: torch.Tensor
    draw: Callable[[int], torch.Tensor]
    keep: Keep
    on_step: OnStep

    def noisy(self, step: int, sigma: float) -> torch.Tensor:
        return noised(self.video, self.draw(step).float().to(self.video.device), sigma)

    def edit(self, ours: _Asked, theirs: _Asked, sampler: Sampler, steps: range) -> Walked:
        """By the difference of two velocities; the edit itself has no noise."""
        edit = estimate = self.video
        for step in steps:
            sigma, following = sampler.sigmas[step : step + 2]
            before = self.noisy(step, sigma)
            after = edit + before - self.video
            velocity = ours.velocity(after, step, sampler)
            estimate = after - sigma * velocity
            change = velocity - theirs.velocity(before, step, sampler)
            edit = self.keep(edit + (following - sigma) * change, step, 0.0)
            self.on_step(step)
        return Walked(edit, estimate)

    def drift(self, plain: _Asked, sampler: Sampler, steps: range, edit: torch.Tensor) -> Walked:
        """Plain sampling, from the edit with noise."""
        sigma = sampler.sigmas[steps[0]]
        latent = self.keep(edit + self.noisy(steps[0], sigma) - self.video, steps[0] - 1, sigma)
        estimate = edit
        for step in steps:
            sigma, following = sampler.sigmas[step : step + 2]
            velocity = plain.velocity(latent, step, sampler)
            estimate = latent - sigma * velocity
            latent = self.keep(latent + (following - sigma) * velocity, step, following)
            self.on_step(step)
        return Walked(latent, estimate)


class _Asked:
    """One side under its guidance."""

    def __init__(self, side: Side, guidance: Guidance) -> None:
        self._denoiser, self._guidance = side.denoiser, guidance
        self._conditions = {
            branch: side.denoiser.condition(side.guide, branch) for branch in guidance.branches
        }

    def velocity(self, latent: torch.Tensor, step: int, walker: Sampler) -> torch.Tensor:
        rule, time = self._guidance.at(step), walker.times_on(latent.device)[step]
        if not rule.branches:
            return torch.zeros_like(latent)
        questions = [Question(step, time, branch, self._conditions[branch]) for branch in rule.branches]
        return walker.corrected(rule.combine(answers(self._denoiser, latent, questions)), latent, step)


def _scaled(guided: GuidanceChoice, text: tuple[float, ...]) -> GuidanceChoice:
    return replace(guided, text=text)


def _check(sampling: Sampling, choice: FlowEdit, steps: int, video: torch.Tensor, guide: Guide) -> None:
    if sampling.free_init is not None:
        raise UsageError(
            "freeinit_args begin again from noise, and flowedit_args from a video. Leave one of them away."
        )
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
