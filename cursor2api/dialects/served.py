"""The dialects that are served."""

from .chat_completions import CHAT_COMPLETIONS
from .messages import MESSAGES
from .responses import RESPONSES

DIALECTS = (CHAT_COMPLETIONS, RESPONSES, MESSAGES)
DEFAULT = CHAT_COMPLETIONS  # errors have its shape where the path is no dialect's
