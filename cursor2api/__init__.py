"""Cursor2API: lets any OpenAI client use Cursor's models."""

__version__ = "0.1.0"
