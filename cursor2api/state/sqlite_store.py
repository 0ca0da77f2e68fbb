"""A store in a file of SQLite, which all workers of a machine share; in memory for a process alone.

A process has one connection, and its threads take turns at it: an operation takes some 0.1 ms, less than SQLite's
own wait for a connection that is at work. Every operation is one transaction.

Beside the file, each process that has agents at work, or looks for those of others, has one of its own: it is
locked until the process ends, however it ends, and then goes with the next look of any other.
"""

import os
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock
from pathlib import Path

from . import LEASE_S, MINUTE

FILE = "state.sqlite"
WAIT_S = 1.0  # longest wait for another thread or process
SCHEMA = """
CREATE TABLE IF NOT EXISTS agents (digest TEXT PRIMARY KEY, agent TEXT, note TEXT, ends REAL);
CREATE INDEX IF NOT EXISTS agents_by_end ON agents (ends);
CREATE TABLE IF NOT EXISTS working (id TEXT PRIMARY KEY, agent TEXT, process TEXT);
CREATE TABLE IF NOT EXISTS data (space TEXT, name TEXT, data BLOB, ends REAL, PRIMARY KEY (space, name));
CREATE INDEX IF NOT EXISTS data_by_end ON data (space, ends);
CREATE TABLE IF NOT EXISTS spaces (space TEXT PRIMARY KEY, bytes INTEGER);
CREATE TRIGGER IF NOT EXISTS more AFTER INSERT ON data BEGIN
  INSERT INTO spaces VALUES (new.space, length(new.data))
    ON CONFLICT (space) DO UPDATE SET bytes = bytes + excluded.bytes; END;
CREATE TRIGGER IF NOT EXISTS less AFTER DELETE ON data BEGIN
  UPDATE spaces SET bytes = bytes - length(old.data) WHERE space = old.space; END;
CREATE TABLE IF NOT EXISTS requests (name TEXT, at REAL);
CREATE INDEX IF NOT EXISTS requests_by_name ON requests (name, at);
CREATE TABLE IF NOT EXISTS held (name TEXT, holder TEXT, count INTEGER, ends REAL, PRIMARY KEY (name, holder));
"""


class SqliteStore:
    """`path` names a file that stays; without it the file goes with the instance's folder, which it is in. Starts
    that overlap, each with a folder of its own, may have one `path`."""

    faults = sqlite3.Error, OSError

    def __init__(self, path: str = "", clock: Callable[[], float] = time.time):
        self._path = os.path.abspath(path) if path else ""  # else ":memory:" is no file
        self._stays, self._clock = bool(path), clock
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._file: tuple | None = None  # which file the connection is of
        self._process = ""  # the name of this process's own file

    def open(self, folder: Path | None) -> None:
        if folder and not self._stays:
            self._path = str(folder / FILE)

    # Agents --------------------------------------------------------------------------------------

    def keep(self, digest: str, agent: str, note: str, seconds: float, limit: int) -> list[str]:
        with self._transaction() as do:
            do("DELETE FROM working WHERE id = ?", _id(agent))
            given_up = _taken(do, "digest = ? AND agent != ?", digest, agent)
            do("REPLACE INTO agents VALUES (?, ?, ?, ?)", digest, agent, note, self._clock() + seconds)
            given_up += _taken(do, "digest IN (SELECT digest FROM agents ORDER BY ends DESC LIMIT -1 OFFSET ?)",
                               limit)
        return [agent for agent, _ in given_up]

    def take(self, digest: str) -> tuple[str, str] | None:
        with self._transaction() as do:  # one that is too old is left for `expired`
            found = _taken(do, "digest = ? AND ends > ?", digest, self._clock())
        return found[0] if found else None

    def kept(self) -> int:
        with self._transaction() as do:
            return do("SELECT count(*) FROM agents").fetchone()[0]

    def begin(self, agent: str) -> None:
        if self._path:
            with self._transaction() as do:
                do("REPLACE INTO working VALUES (?, ?, ?)", _id(agent), agent, self._own_process())

    def done(self, agent: str) -> None:
        if self._path:
            with self._transaction() as do:
                do("DELETE FROM working WHERE id = ?", _id(agent))

    def expired(self) -> list[str]:
        with self._transaction() as do:
            old = _taken(do, "ends <= ?", self._clock())
            return [agent for agent, _ in old] + (self._left_by_killed(do) if self._path else [])

    def _left_by_killed(self, do: Callable) -> list[str]:
        found, own, living = [], self._own_process(), self._living()
        if own in living:  # else somebody has cleared the folder, and what is not there tells nothing
            for process, in do("SELECT DISTINCT process FROM working").fetchall():
                if process not in living:
                    found += do("SELECT agent FROM working WHERE process = ?", process).fetchall()
                    do("DELETE FROM working WHERE process = ?", process)
        return [agent for agent, in found]

    def _own_process(self) -> str:
        """The name of this process's file, which is there from now on. Called in a transaction, as `_living` is:
        so nobody finds it before it is locked."""
        if not self._process:
            name = f"{os.path.basename(self._path)}-process-{uuid.uuid4().hex}"
            path = os.path.join(os.path.dirname(self._path), name)
            self._locked = open(path, "w", opener=lambda path, flags: os.open(path, flags, 0o600))
            flock(self._locked, LOCK_EX)
            self._process = name
        os.utime(self._locked.fileno())  # for those who clear folders of what is old
        return self._process

    def _living(self) -> set[str]:
        """The names of the files of processes that have not ended; the files of others are removed. One that
        cannot be looked into counts as locked."""
        folder, name = os.path.split(self._path)
        living = set()
        for each in os.listdir(folder):
            if each.startswith(f"{name}-process-"):
                path = os.path.join(folder, each)
                try:
                    with open(path) as file:
                        flock(file, LOCK_SH | LOCK_NB)
                    os.unlink(path)
                except OSError:
                    living.add(each)
        return living

    def lost(self, others: bool) -> list[str]:
        if self._stays or others and self._path:
            return []
        with self._transaction() as do:
            return [agent for agent, _ in _taken(do, "TRUE")]

    # Values --------------------------------------------------------------------------------------

    def put(self, space: str, key: str, data: bytes, seconds: float, limit: int) -> None:
        with self._transaction() as do:
            do("DELETE FROM data WHERE space = ? AND name = ?", space, key)
            do("INSERT INTO data VALUES (?, ?, ?, ?)", space, key, data, self._clock() + seconds)
            while do("SELECT 1 FROM spaces WHERE space = ? AND bytes > ?", space, limit).fetchone():
                do("DELETE FROM data WHERE rowid = ("
                   "SELECT rowid FROM data WHERE space = ? ORDER BY ends LIMIT 1)", space)

    def get(self, space: str, key: str) -> bytes | None:
        with self._transaction() as do:
            row = do("SELECT data FROM data WHERE space = ? AND name = ? AND ends > ?", space, key,
                     self._clock()).fetchone()
        return row and row[0]

    def delete(self, space: str, key: str) -> None:
        with self._transaction() as do:
            do("DELETE FROM data WHERE space = ? AND name = ?", space, key)

    # Counts --------------------------------------------------------------------------------------

    def count(self, name: str, most: int) -> float:
        with self._transaction() as do:
            now = self._clock()
            do("DELETE FROM requests WHERE name = ? AND at <= ?", name, now - MINUTE)
            made, first = do("SELECT count(*), min(at) FROM requests WHERE name = ?", name).fetchone()
            if made >= most:
                return first + MINUTE - now
            do("INSERT INTO requests VALUES (?, ?)", name, now)
            return 0.0

    def hold(self, name: str, holder: str, held: int, most: int | None) -> bool:
        with self._transaction() as do:
            now = self._clock()
            others = do("SELECT total(count) FROM held WHERE name = ? AND holder != ? AND ends > ?", name, holder,
                        now).fetchone()[0]
            if most is not None and others + held > most:
                return False
            do("REPLACE INTO held VALUES (?, ?, ?, ?)", name, holder, held, now + LEASE_S)
            return True

    # The file ------------------------------------------------------------------------------------

    def tidy(self) -> None:
        with self._transaction() as do:
            now = self._clock()
            do("DELETE FROM data WHERE ends <= ?", now)
            do("DELETE FROM requests WHERE at <= ?", now - MINUTE)
            do("DELETE FROM held WHERE ends <= ? OR count = 0", now)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._lock.acquire(timeout=WAIT_S):
            raise sqlite3.OperationalError("another thread waits for the file")
        try:
            yield
        finally:
            self._lock.release()

    @contextmanager
    def _transaction(self) -> Iterator[Callable[..., sqlite3.Cursor]]:
        """All of it happens or nothing, and nobody else writes meanwhile. A fault ends the connection."""
        with self._turn():
            try:
                connection = self._connected()
                connection.execute("BEGIN IMMEDIATE")
                with connection:
                    yield lambda sql, *values: connection.execute(sql, values)
            except self.faults:
                self._drop()
                raise

    def _connected(self) -> sqlite3.Connection:
        if self._connection and self._path and _identity(os.stat(self._path)) != self._file:
            raise FileNotFoundError("the store's file is another")
        if not self._connection:
            with ExitStack() as stack:
                if self._path:
                    self._make_file(stack)
                self._connection = sqlite3.connect(self._path or ":memory:", timeout=WAIT_S,
                                                   isolation_level=None, check_same_thread=False)
                self._connection.execute("PRAGMA journal_mode = WAL")
                self._connection.execute("PRAGMA synchronous = NORMAL")
                self._connection.executescript(f"BEGIN IMMEDIATE; {SCHEMA} COMMIT")
        return self._connection

    def _make_file(self, stack: ExitStack) -> None:
        """The file is there, with its mode, which SQLite gives to those beside it. Until `stack` ends no other
        process gets as far, as SQLite refuses two that change a file to WAL at once."""
        folder = os.open(os.path.dirname(self._path), os.O_RDONLY)
        stack.callback(os.close, folder)
        flock(folder, LOCK_EX)
        file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        if (identity := _identity(os.fstat(file))) != self._file:
            self._file, self._process = identity, ""  # who removed the last database took all that was beside it
        os.fchmod(file, 0o600)
        os.close(file)  # before SQLite has it: any close ends all locks that a process has on a file

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection:
            connection.close()


def _taken(do: Callable, where: str, *values) -> list[tuple[str, str]]:
    """The (agent, note) of those that a condition holds for, which are then gone."""
    found = do(f"SELECT agent, note FROM agents WHERE {where} ORDER BY ends", *values).fetchall()
    if found:
        do(f"DELETE FROM agents WHERE {where}", *values)
    return found


def _id(agent: str) -> str:
    """What is the same of an agent's name in each of its runs."""
    return agent.partition("/")[0]


def _identity(stat: os.stat_result) -> tuple[int, int]:
    return stat.st_dev, stat.st_ino
