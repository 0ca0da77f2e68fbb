"""The tokens that an upstream states, read warily: what can be no count is 0."""

from ..events import Usage

MOST = 10**12  # a count beyond it is none
COUNTS = ("inputTokens", "outputTokens", "cacheReadTokens", "reasoningTokens")


def usage_of(stated: object) -> Usage | None:
    """None where no tokens of a prompt are stated: then the estimate is better. `inputTokens` are all tokens of
    the prompt, those that a cache held too."""
    if not isinstance(stated, dict):
        return None
    read, wrote, cached, thought = (_count(stated.get(name)) for name in COUNTS)
    prompt = max(read, cached)
    return Usage(prompt, wrote, thought, cached) if prompt else None


def _count(value: object) -> int:
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20:
        value = int(value)  # sdk.v1 counts in int64, which JSON has as strings
    return value if type(value) is int and 0 <= value < MOST else 0
