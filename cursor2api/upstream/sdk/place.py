"""Where the workers of an instance find their one bridge: files in its folder, which only its user can read.

    bridge-ID   a notice that says where the bridge is. Its keeper holds it locked as long as anything of the
                bridge is left. When the bridge is to end it is removed first: then nobody begins to use it.
    using-ID    locked, shared, by each worker that uses the bridge; its time is that of the last use that ended
    starting    locked by the worker that starts a bridge: the others wait, and find it

The locks are those of flock: they end with whoever holds them, however that ends.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock
from pathlib import Path


class Place:
    """A folder. Whatever cannot be done in it raises OSError."""

    def __init__(self, folder: Path):
        self._folder = folder

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Nobody else starts a bridge meanwhile."""
        with open(self._folder / "starting", "w") as file:
            flock(file, LOCK_EX)
            yield

    def find(self) -> dict | None:
        """What the notice of the bridge says, or None if there is no bridge."""
        for notice in self._folder.glob("bridge-*"):
            with suppress(FileNotFoundError), open(notice) as file:
                try:
                    flock(file, LOCK_SH | LOCK_NB)
                except BlockingIOError:
                    return json.load(file)
                notice.unlink(missing_ok=True)  # of a bridge whose keeper was killed
        return None

    def notice(self, id: str) -> Path:
        return self._folder / f"bridge-{id}"

    def new(self, id: str) -> int:
        """An open file, locked, that becomes the notice when it is published; the keeper holds it open too."""
        file = os.open(self._folder / f"new-{id}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        flock(file, LOCK_EX)
        return file

    def publish(self, id: str, file: int, said: dict) -> None:
        os.write(file, json.dumps(said).encode())
        os.rename(self._folder / f"new-{id}", self.notice(id))

    def has(self, id: str) -> bool:
        """Whether this bridge may be used by whoever does not use it yet."""
        return self.notice(id).exists()

    def wait(self, id: str) -> None:
        """Returns when nothing of the bridge is left."""
        with suppress(FileNotFoundError), open(self.notice(id)) as file:
            flock(file, LOCK_SH)

    def use(self, id: str) -> int:
        """A file: as long as it is open, the bridge is in use. Raises BlockingIOError if that may be ending."""
        file = os.open(self._folder / f"using-{id}", os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            flock(file, LOCK_SH | LOCK_NB)
        except BlockingIOError:
            os.close(file)
            raise
        return file

    def leave(self, file: int) -> None:
        os.utime(file)
        os.close(file)

    @contextmanager
    def unused(self, id: str) -> Iterator[float | None]:
        """The time of the last use that ended, during which nobody can begin one; None if the bridge is in use."""
        with open(self._folder / f"using-{id}", "ab") as file:
            try:
                flock(file, LOCK_EX | LOCK_NB)
            except BlockingIOError:
                yield None
            else:
                yield os.fstat(file.fileno()).st_mtime

    def withdraw(self, id: str) -> None:
        """From now on nobody begins to use this bridge."""
        self.notice(id).unlink(missing_ok=True)
