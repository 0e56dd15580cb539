"""The speech encoder: a waveform to one stack of features per video frame."""

from infinite_talk.models.speech.config import SpeechConfig
from infinite_talk.models.speech.model import SpeechEncoder

__all__ = ["SpeechConfig", "SpeechEncoder"]
