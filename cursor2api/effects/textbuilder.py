"""Puts a text together from pieces of any size, in about the memory of the text.

A list of the pieces, or io.StringIO, which keeps such a list, takes some 60 bytes for each.
"""


class TextBuilder:

    __slots__ = ("_pieces", "_joined")

    def __init__(self):
        self._pieces: list[str] = []
        self._joined: list[str] = []

    def write(self, piece: str) -> None:
        self._pieces.append(piece)
        if len(self._pieces) == 512:
            self._joined.append("".join(self._pieces))
            self._pieces.clear()

    def getvalue(self) -> str:
        """The text so far."""
        return "".join((*self._joined, *self._pieces))
