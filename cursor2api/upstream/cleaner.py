"""Work that no request waits for: what ends and deletes at the upstream what a reply has left there."""

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

log = logging.getLogger("cursor2api")


class Cleaner:
    """At most `threads` works at a time, in threads of this `name`."""

    def __init__(self, threads: int, name: str = "cleaner"):
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._works: dict[Future, str] = {}

    def submit(self, what: str, work: Callable, *args) -> None:
        """`what` it is that is ended, for `finish`."""
        future = self._pool.submit(work, *args)
        self._works[future] = what
        future.add_done_callback(self._over)

    def _over(self, future: Future) -> None:
        del self._works[future]
        if error := future.exception():
            log.error("a fault in cleaning", exc_info=error)

    def finish(self, seconds: float) -> list[str]:
        """Returns when all is over, or after that time: with what then is not."""
        wait(list(self._works), max(0, seconds))
        return list(self._works.values())
