"""What `held` says of sockets is what the socket module says; its random bytes come once, also after a fork."""

import os
import socket
from contextlib import closing

import pytest
from conftest import until

from cursor2api import held


@pytest.fixture
def pair():
    one, other = socket.socketpair()
    with closing(one), closing(other):
        yield one, other


def test_what_fits_is_sent_at_once_and_the_rest_is_left(pair):
    one, other = pair
    assert held.send(one, b"hello\0there") == 11 and other.recv(100) == b"hello\0there"
    assert held.send(one, b"x" * (held.AT_ONCE + 1)) == 0
    sent = 0
    while more := held.send(one, b"x" * held.AT_ONCE):
        sent += more
    got = 0
    while got < sent:
        got += len(other.recv(1 << 20))
    assert got == sent and held.send(one, b"again") == 5


def test_sending_to_nobody_is_an_error(pair):
    one, other = pair
    other.close()
    with pytest.raises(BrokenPipeError):
        held.send(one, b"hello")
    one.close()
    with pytest.raises(OSError):
        held.send(one, b"hello")


def test_bytes_an_end_and_an_error_can_be_read_and_silence_cannot(pair):
    one, other = pair
    assert not held.readable(one)
    other.send(b"x")
    assert until(lambda: held.readable(one)) and one.recv(1) == b"x" and not held.readable(one)
    other.close()
    assert until(lambda: held.readable(one))
    one.close()
    assert held.readable(one)


def test_no_two_tokens_are_equal_nor_those_of_a_fork():
    held.token()  # some are in store
    read, write = os.pipe()
    if not (child := os.fork()):
        os.write(write, " ".join(held.token() for _ in range(20)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    tokens = os.read(read, 4096).decode().split() + [held.token() for _ in range(600)]
    assert len({*tokens}) == 620 and {len(token) for token in tokens} == {24}
    assert held.uuid().version == 4
