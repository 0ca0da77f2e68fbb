"""The dialects that are served."""

from .chat_completions import CHAT_COMPLETIONS

DIALECTS = (CHAT_COMPLETIONS,)
DEFAULT = CHAT_COMPLETIONS  # errors have its shape where the path is no dialect's
