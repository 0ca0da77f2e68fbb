"""A stand-in for Cursor, and one for the bridge of its SDK."""

from .cursor import serve

__all__ = ["serve"]
