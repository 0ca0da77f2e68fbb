"""System calls that never wait, made without letting go of the interpreter's lock, and random bytes in store.

Under load, whoever lets go of it queues for it again; bench/results.md has what that is worth.
"""

import ctypes
import errno
import os
import socket
from uuid import UUID

LIBC = ctypes.PyDLL(None, use_errno=True)
LIBC.send.argtypes = ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int
LIBC.recv.argtypes = ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
LIBC.send.restype = LIBC.recv.restype = ctypes.c_ssize_t
AT_ONCE = 65536  # bytes: copying more would keep all others waiting
PEEK = socket.MSG_PEEK | socket.MSG_DONTWAIT
BYTE = ctypes.create_string_buffer(1)
PAGE = 4096

_random: list[bytes] = []
os.register_at_fork(after_in_child=_random.clear)


def send(sock: socket.socket, data: bytes) -> int:
    """How many bytes of `data` there was room for at once; 0 if it is too much to try. Raises OSError."""
    if len(data) > AT_ONCE:
        return 0
    sent = LIBC.send(sock.fileno(), data, len(data), socket.MSG_DONTWAIT)
    if sent >= 0:
        return sent
    if (number := ctypes.get_errno()) == errno.EAGAIN:
        return 0
    raise OSError(number, os.strerror(number))


def readable(sock: socket.socket) -> bool:
    """Whether a read would find bytes, an end or an error."""
    return LIBC.recv(sock.fileno(), BYTE, 1, PEEK) >= 0 or ctypes.get_errno() != errno.EAGAIN


def token() -> str:
    """24 hexadecimal characters that nobody can guess."""
    return _bytes().hex()[:24]


def uuid() -> UUID:
    """A random UUID (RFC 9562, version 4)."""
    return UUID(bytes=_bytes(), version=4)


def _bytes() -> bytes:
    while True:
        try:
            return _random.pop()
        except IndexError:
            page = os.urandom(PAGE)
            _random.extend(page[at:at + 16] for at in range(0, PAGE, 16))
