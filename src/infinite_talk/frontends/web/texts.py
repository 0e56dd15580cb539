"""``Texts``: every sentence of the page in English and Simplified Chinese, from ``texts*.toml``."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

import gradio as gr

LANGUAGES = {"en": "English", "zh": "中文"}
"""Languages of the catalogue, as their speakers call them."""
LOCALES = {"en": "en", "zh": "zh-CN"}
"""What Gradio calls them; its own words (of drop zones and players) come in these too."""


@dataclass(frozen=True, slots=True)
class Texts:
    """The catalogue: key -> language -> sentence with ``{places}``."""

    entries: Mapping[str, Mapping[str, str]]

    @classmethod
    @cache
    def load(cls) -> Texts:
        """All ``texts*.toml`` of this folder; a key is in one of them only."""
        entries: dict[str, Mapping[str, str]] = {}
        for file in files(__package__).iterdir():
            if file.name.startswith("texts") and file.name.endswith(".toml"):
                for key, entry in tomllib.loads(file.read_text(encoding="utf-8")).items():
                    assert key not in entries, f"{key} is in two catalogues"
                    entries[key] = entry
        return cls(entries)

    def label(self, key: str) -> Any:  # noqa: ANN401 - Gradio's marker, which its types call a string here and there
        """A text of the page's frame: the browser chooses its language, at once and without a request."""
        assert key in self.entries, f"no text {key}"
        return gr.I18n()(key)

    def choices(self, prefix: str, values: Iterable[str]) -> list[tuple[Any, str]]:
        """Pairs for a radio group or a list; the texts are ``prefix_value``."""
        return [(self.label(f"{prefix}_{value.replace('-', '_')}"), value) for value in values]

    def say(self, language: str, key: str, **values: object) -> str:
        """A plain sentence in one language, for what is only known while the page runs."""
        text = self.entries[key][language]
        return text.format(**values) if values else text

    def html(self, language: str, key: str, **values: object) -> str:
        """As ``say``, with all values escaped: they may be names of files or prompts."""
        return self.say(language, key, **{name: escape(str(value)) for name, value in values.items()})

    def has(self, key: str) -> bool:
        return key in self.entries

    def translations(self) -> gr.I18n:
        """All of them for the browser."""
        return gr.I18n(
            **{
                locale: {key: entry[language] for key, entry in self.entries.items()}
                for language, locale in LOCALES.items()
            }
        )
