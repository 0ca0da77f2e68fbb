"""Who may use the key of the development start: `make run` serves 0000 while API_KEY is not set.

Everybody knows that key, so the caller's connection must prove that the caller is the user who started the
service. Headers prove nothing about that: a caller or a proxy writes what it likes.
"""

import os
import re
import socket
import struct
import sys
from contextlib import suppress

OURS = re.compile(r"(localhost|127\.0\.0\.1)(:\d+)?")
# Linux lists the connections here. One that a program made over IPv6 to an IPv4 address is in the second.
TABLES = (("/proc/net/tcp", socket.AF_INET, ""), ("/proc/net/tcp6", socket.AF_INET6, "::ffff:"))


def may_use(environ: dict) -> bool:
    """Whether a request comes from a program of this process's user, and from no page of another site."""
    # The user's browser has the user's connections, also for a page of another site. But a browser names the
    # page's site in Origin. In Host it names the site if that site's own name leads to 127.0.0.1.
    host, origin = environ.get("HTTP_HOST", ""), environ.get("HTTP_ORIGIN")
    if not OURS.fullmatch(host) or origin not in (None, f"http://{host}"):
        return False
    connection = environ["gunicorn.socket"]
    peer = connection.getpeername()
    if sys.platform != "linux":
        return peer[0] == "127.0.0.1"
    return _owner(peer, connection.getsockname()) == os.geteuid()


def _owner(peer: tuple[str, int], own: tuple[str, int]) -> int | None:
    """The uid of whoever holds the peer's end of a connection; None if nobody on this machine does."""
    for path, family, prefix in TABLES:
        ends = [_written(family, prefix + address, port) for address, port in (peer, own)]
        with suppress(FileNotFoundError), open(path) as table:  # there is no second without IPv6
            for columns in map(str.split, table):
                if columns[1:3] == ends and columns[9] != "0":  # an end that is closed already is nobody's
                    return int(columns[7])
    return None


def _written(family: int, address: str, port: int) -> str:
    """An end of a connection as the tables write it: words of four bytes in this machine's order."""
    words = struct.iter_unpack("=I", socket.inet_pton(family, address))
    return "".join(f"{word:08X}" for word, in words) + f":{port:04X}"
