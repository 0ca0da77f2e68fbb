"""The estimate of tokens, in use wherever Cursor gives no count."""


def units(text: str) -> int:
    """Size of a text in quarter tokens: an ASCII character is one, any other four."""
    if text.isascii():
        return len(text)
    plain = len(text.encode("ascii", "ignore"))
    return plain + 4 * (len(text) - plain)


def tokens(text: str) -> int:
    """The one estimate of tokens, in use wherever Cursor gives no count: four ASCII characters or
    one other character are a token, rounded up over the whole text."""
    return -(-units(text) // 4)
