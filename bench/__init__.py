"""Measurements of the finished program, one question per file; each writes JSON to ``bench/results/``."""
