"""The counts of several workers, put together by files in a folder: each worker keeps its own up to date there.

Requests count in memory alone. A thread of each worker writes its counts once a second, so a disk that hangs holds
nobody up, and one that is full costs no more than what the other workers know of this one. A file is
replaced as a whole. When a worker has ended the master adds its counts to the file of all that have ended, and its
name with them. A reader reads that file last and passes over the workers that it names, so each counts once.
"""

import json
import logging
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger("cursor2api")

EVERY_S = 1.0
ENDED = "ended"
NAMES = 100  # of those that ended last: no reader is slower than that

Row = tuple[str, str, tuple[tuple[str, str], ...], float]  # a metric, its sample's name and labels, the value


def new_folder() -> Path | None:
    """Where the workers of a master share what they know; None, which is logged, if there can be no such place."""
    try:
        return Path(tempfile.mkdtemp(prefix="cursor2api-"))
    except OSError as error:
        _warn(error)
        return None


def add_ended(folder: Path, name: str) -> None:
    """Adds the counts of a worker that has ended to those of all that have; its gauges count no longer."""
    worker, ended = folder / f"{name}.json", folder / f"{ENDED}.json"
    try:
        if worker.exists():
            before = _read(ended)
            names = [*before["names"], name][-NAMES:]
            _write(ended, {"names": names, "counts": added(before["counts"] + _read(worker)["counts"])})
            worker.unlink()
    except (OSError, ValueError) as error:
        _warn(error)


class Shared:
    """One worker's part. `own` gives its counts and its gauges as they are now."""

    def __init__(self, folder: Path, name: str, own: Callable[[], tuple[list[Row], list[Row]]]):
        self._folder, self._path, self._own = folder, folder / f"{name}.json", own
        self._saving = threading.Lock()
        self._saved: tuple | None = None
        self._failing = False
        threading.Thread(target=self._go_on, name="counts", daemon=True).start()

    def _go_on(self) -> None:
        while True:
            self.save()
            time.sleep(EVERY_S)

    def save(self) -> None:
        """Writes what has changed; gives up if another thread has been at it for long, as the disk hangs then."""
        if not self._saving.acquire(timeout=EVERY_S):
            return
        try:
            counts, gauges = now = self._own()
            if now != self._saved:
                _write(self._path, {"counts": counts, "gauges": gauges})
                self._saved, self._failing = now, False
        except OSError as error:
            if not self._failing:
                _warn(error)
            self._failing = True
        finally:
            self._saving.release()

    def others(self) -> list[Row]:
        """What all other workers of this master have counted, those that have ended too."""
        workers = {path.stem: _read(path) for path in self._folder.glob("*.json")
                   if path != self._path and path.stem != ENDED}
        ended = _read(self._folder / f"{ENDED}.json")
        for name in workers.keys() - ended["names"]:
            ended["counts"] += workers[name]["counts"] + workers[name]["gauges"]
        return ended["counts"]


def added(rows: list[Row]) -> list[Row]:
    """One row a sample, with the sum of its values."""
    totals: dict[tuple, float] = {}
    for metric, name, labels, value in rows:
        sample = metric, name, tuple(map(tuple, labels))
        totals[sample] = totals.get(sample, 0) + value
    return [(*sample, value) for sample, value in totals.items()]


def _read(path: Path) -> dict[str, list]:
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:  # it was there when the folder was read, and its worker has ended since
        content = {}
    return {"names": [], "counts": [], "gauges": [], **content}


def _write(path: Path, content: dict) -> None:
    """Either the whole of it or nothing is there afterwards. Raises OSError."""
    new = path.with_suffix(".new")
    try:
        new.write_text(json.dumps(content))
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def _warn(error: Exception) -> None:
    log.warning("counts cannot be shared: /metrics lacks those of other workers", extra={"facts": {
        "why": getattr(error, "strerror", None) or type(error).__name__}})
