"""The life of the SDK's bridge, the local process that speaks sdk.v1 and asks Cursor: found, started
when it is first needed, started anew when it died, ended when nobody has needed it for a while.
"""

import importlib.util
import json
import logging
import os
import pwd
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

from ...config import ConfigError
from ...errors import ApiError, UpstreamError
from ..http import Http, Limits

log = logging.getLogger("cursor2api")

KEEPER = Path(__file__).with_name("keeper.py")
END_S = 10
LONGEST_PAUSE_S = 30
UNPRIVILEGED = "nobody"  # whom the bridge runs as when we are root and nobody else is named


def installed() -> str:
    """The command that starts the bridge of the package cursor-sdk, or one on PATH; "" if none is there."""
    package = importlib.util.find_spec("cursor_sdk")
    path = package and package.origin and Path(package.origin).parent / "_vendor/bridge/bin/cursor-sdk-bridge"
    path = path if path and path.is_file() else shutil.which("cursor-sdk-bridge")
    return shlex.quote(str(path)) if path else ""


def bridge_user(name: str, command: tuple[str, ...]) -> str:
    """Whom the bridge runs as, given SDK_USER. Raises ConfigError if that cannot be."""
    own = pwd.getpwuid(os.geteuid()).pw_name
    if own != "root":
        if name not in ("", own):
            raise ConfigError(f"SDK_USER: expected a start as root, who alone can run the bridge as {name!r}, "
                              f"got a start as {own!r}")
        return own
    try:
        user = pwd.getpwnam(name or UNPRIVILEGED)
    except KeyError:
        raise ConfigError("SDK_USER: expected a user of this machine, got "
                          f"{name or UNPRIVILEGED!r}") from None
    if user.pw_uid and "/" in command[0] and subprocess.run(
            ["/bin/sh", "-c", 'test -x "$0"', command[0]], user=user.pw_uid, group=user.pw_gid,
            extra_groups=(), cwd="/").returncode:
        raise ConfigError(f"SDK_USER: expected a user who can run {command[0]}, got {user.pw_name!r}: move "
                          "the service out of root's own folder, or name another user")
    return user.pw_name


class Bridge:
    """One bridge process. `asked`: we ended it; `gone` is set when it has ended, with nothing left."""

    def __init__(self, command: tuple[str, ...], user: str, backend: str, limits: Limits, pool: int,
                 ended: Callable[["Bridge"], None]):
        """Returns when it is ready. Raises UpstreamError."""
        self.asked, self.gone = False, threading.Event()
        self._ended = ended
        self._keeper = subprocess.Popen(
            [sys.executable, "-I", KEEPER, "--user", user, "--backend", backend,
             "--temp", tempfile.gettempdir(), "--start", str(limits.create), *command],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={}, cwd="/", start_new_session=True)
        said = json.loads(self._keeper.stdout.readline() or '{"error": "its keeper ended"}')
        if "error" in said:
            self._keeper.communicate()
            log.warning("the SDK's bridge did not start: %s", said["error"])
            raise UpstreamError("The SDK's bridge did not start; the log says why", status=503,
                                code="bridge_failed")
        self.workspace = said["folder"] + "/work"
        self.http = Http(said["url"], {"Authorization": f"Bearer {said['token']}", "Connection": "close"},
                         limits, pool, direct=True)
        threading.Thread(target=self._watch, args=(said,), name="bridge", daemon=True).start()

    def _watch(self, said: dict) -> None:
        self._keeper.stdout.read()
        if self._keeper.wait() < 0:  # it was killed, so that its work is ours
            try:
                os.kill(said["pid"], signal.SIGKILL)
            except ProcessLookupError:
                pass
            shutil.rmtree(said["folder"], ignore_errors=True)
        self.http.close()
        self.gone.set()
        self._ended(self)

    def end(self) -> None:
        """Ends it, and returns when it has gone."""
        self.asked = True
        self._keeper.stdin.close()
        if not self.gone.wait(END_S):
            self._keeper.kill()
            self.gone.wait(END_S)


class Bridges:
    """One bridge at a time, for all threads of a process; none before the first lease."""

    def __init__(self, start: Callable[[Callable[[Bridge], None]], Bridge], idle: float, pause: float,
                 clock: Callable[[], float] = time.monotonic):
        """`start(ended)` makes a bridge; `idle` and `pause` are SDK_IDLE_S and RETRY_S."""
        self._start, self._idle, self._pause, self._clock = start, idle, pause, clock
        self._lock = threading.Lock()
        self._current: Future | None = None
        self._leases = 0
        self._failures = 0  # ends that nobody asked for since a run last went well
        self._not_before = 0.0
        self._timer: threading.Timer | None = None
        self._closed = False

    def lease(self) -> Bridge:
        """The bridge, when it is ready; whoever gets it calls `release` once. Raises UpstreamError."""
        with self._lock:
            self._leases += 1
            if self._timer:
                self._timer.cancel()
                self._timer = None
            future = self._current = self._usable()
        try:
            return future.result()
        except ApiError:
            self.release()
            raise

    def release(self) -> None:
        with self._lock:
            self._leases -= 1
            if not self._leases and self._idle and self._current:
                self._timer = threading.Timer(self._idle, self._retire)
                self._timer.daemon = True
                self._timer.start()

    def went_well(self) -> None:
        self._failures = 0

    def close(self) -> None:
        """Ends the bridge, and starts none again."""
        with self._lock:
            self._closed, future = True, self._current
            if self._timer:
                self._timer.cancel()
        self._finish(future)

    def _usable(self) -> Future:
        """The bridge that runs or starts, else a new one. The lock is held."""
        future = self._current
        if future and not (future.done() and (future.exception() or future.result().gone.is_set())):
            return future
        left = self._not_before - self._clock()
        if left > 0 or self._closed:
            future = Future()
            future.set_exception(UpstreamError(
                "The SDK's bridge keeps ending; it is started again in a moment", status=503,
                code="bridge_failed", retry_after=max(1.0, left)))
            return future
        future = Future()
        threading.Thread(target=self._make, args=(future,), name="bridge-start", daemon=True).start()
        return future

    def _make(self, future: Future) -> None:
        try:
            bridge = self._start(self._ended)
        except ApiError as error:
            self._failed()
            future.set_exception(error)
        else:
            log.info("the SDK's bridge has started")
            future.set_result(bridge)

    def _ended(self, bridge: Bridge) -> None:
        if not bridge.asked:
            log.warning("the SDK's bridge ended by itself")
            self._failed()

    def _failed(self) -> None:
        with self._lock:
            self._failures += 1
            if self._failures > 1:  # the first is made good at once
                self._not_before = self._clock() + min(
                    LONGEST_PAUSE_S, self._pause * 2 ** (self._failures - 2))

    def _retire(self) -> None:
        with self._lock:
            if self._leases or not self._timer:
                return
            future, self._current, self._timer = self._current, None, None
        log.info("the SDK's bridge is ended: nobody has needed it for %g s", self._idle)
        self._finish(future)

    @staticmethod
    def _finish(future: Future | None) -> None:
        if future and not future.exception():  # waits for a start that is under way
            future.result().end()
