"""Adapters: small networks beside the transformer, each from a file of its own, that tell it poses, guides or faces.

``uni_animate`` and ``uni3c`` add to its tokens, ``fantasy_talking`` and ``fantasy_portrait`` give its blocks something
more to attend to. How they act in a window: ``denoise/adapters``.
"""

from infinite_talk.models.adapters.fantasy_portrait import FantasyPortrait, PortraitConfig
from infinite_talk.models.adapters.fantasy_talking import FantasyTalking, TalkingConfig
from infinite_talk.models.adapters.uni3c import Uni3C, Uni3CConfig
from infinite_talk.models.adapters.uni_animate import UniAnimate, UniAnimateConfig

__all__ = [
    "FantasyPortrait",
    "FantasyTalking",
    "PortraitConfig",
    "TalkingConfig",
    "Uni3C",
    "Uni3CConfig",
    "UniAnimate",
    "UniAnimateConfig",
]
