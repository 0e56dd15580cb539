"""Drawn talking portraits: identities from seeds, smooth motion, a mouth of six channels, vectorised torch.

    who = identities(seeds)                      # N people
    pose = poses(seeds, frames)                  # their motion
    picture = render(who, pose, mouth, size=192)  # (N, F, 3, 192, 192) in [0, 1]

Portraits with seed >= 1,000,000 are never trained on: they are for evaluation.
"""

from training.portraits.babble import babble
from training.portraits.describe import describe
from training.portraits.draw import render
from training.portraits.identity import Identity, identities
from training.portraits.mouth import CHANNELS, REST, MouthGeometry, mouth_box, mouth_geometry
from training.portraits.pose import Pose, poses, still

FIRST_UNSEEN_SEED = 1_000_000
"""Seeds from here on are kept for evaluation."""

__all__ = [
    "CHANNELS",
    "FIRST_UNSEEN_SEED",
    "REST",
    "Identity",
    "MouthGeometry",
    "Pose",
    "babble",
    "describe",
    "identities",
    "mouth_box",
    "mouth_geometry",
    "poses",
    "render",
    "still",
]
