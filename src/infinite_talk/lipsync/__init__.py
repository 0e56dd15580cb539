"""Measures how the mouth of a drawn talking portrait follows its sound, and the speech in it.

report = measure(Path("talk.mp4"), chart=Path("talk.png"))
print(report.sentence(), shortcomings(report))
"""

from infinite_talk.lipsync.activity import ActivityMeter, mouth_activity
from infinite_talk.lipsync.chart import draw_chart
from infinite_talk.lipsync.loudness import envelope, loudness_db, silence
from infinite_talk.lipsync.measure import Limits, LipsyncReport, compare, measure, shortcomings
from infinite_talk.lipsync.reader import MouthReader, MouthTrack, load_reader, read_mouth
from infinite_talk.lipsync.scores import Score, amplitude_ratio, best_lag, closed_share, pearson, score
from infinite_talk.lipsync.voice import Listener, expected_opening, load_listener

__all__ = [
    "ActivityMeter",
    "Limits",
    "LipsyncReport",
    "Listener",
    "MouthReader",
    "MouthTrack",
    "Score",
    "amplitude_ratio",
    "best_lag",
    "closed_share",
    "compare",
    "draw_chart",
    "envelope",
    "expected_opening",
    "load_listener",
    "load_reader",
    "loudness_db",
    "measure",
    "mouth_activity",
    "pearson",
    "read_mouth",
    "score",
    "shortcomings",
    "silence",
]
