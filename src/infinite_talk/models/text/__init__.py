"""The text encoder: prompts to vectors."""

from infinite_talk.models.text.config import TextConfig
from infinite_talk.models.text.model import TextEncoder
from infinite_talk.models.text.tokens import FolderTokenizer, Tokenizer

__all__ = ["FolderTokenizer", "TextConfig", "TextEncoder", "Tokenizer"]
