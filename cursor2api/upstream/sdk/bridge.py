"""The life of the SDK's bridge, the local process that speaks sdk.v1 and asks Cursor: found where another worker
has started it, started when it is first needed, started anew when it died, ended when nobody has needed it for a
while.
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
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from ...config import ConfigError
from ...errors import ApiError, UpstreamError
from ..http import Http, Limits
from .place import Place

log = logging.getLogger("cursor2api")

KEEPER = Path(__file__).with_name("keeper.py")
END_S = 10
LONGEST_PAUSE_S = 30
BACKEND = "CURSOR_BACKEND_URL"  # not on a command line, which every user of the machine can read
LOOK_S = 0.05
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
    """A bridge process of this worker's. `asked`: we ended it; `gone` is set when nothing of it is left.
    If it is `shared`, the other workers find it at its `place`."""

    def __init__(self, command: tuple[str, ...], user: str, backend: str, limits: Limits, pool: int,
                 ended: Callable[["Bridge"], None], place: Place | None = None):
        """Returns when it is ready. Raises UpstreamError."""
        self.id, self.asked, self.gone = uuid.uuid4().hex, False, threading.Event()
        self._ended = ended
        self._place, self.shared = place, bool(place)
        self._notice, notice = None, []
        if place:
            self._notice, notice = place.new(self.id), ["--notice", str(place.notice(self.id))]
        try:
            self._keeper = subprocess.Popen(
                [sys.executable, "-I", KEEPER, "--user", user,
                 "--temp", tempfile.gettempdir(), "--start", str(limits.create), *notice, *command],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={BACKEND: backend}, cwd="/",
                start_new_session=True, pass_fds=[self._notice] if place else [])
        except OSError:
            self._let_go()
            raise
        said = json.loads(self._keeper.stdout.readline() or '{"error": "its keeper ended"}')
        if "error" in said:
            self._keeper.communicate()
            self._let_go()
            log.warning("the SDK's bridge did not start: %s", said["error"])
            raise _not_started()
        self.http, self.workspace = _reached(said, limits, pool)
        try:
            threading.Thread(target=self._watch, args=(said,), name="bridge", daemon=True).start()
        except RuntimeError:
            self._keeper.communicate()
            self._let_go()
            raise
        if place:
            try:
                place.publish(self.id, self._notice, {"id": self.id, **said})
            except OSError as error:
                self.shared = False
                log.warning("the SDK's bridge cannot be shared: %s", error)

    def _watch(self, said: dict) -> None:
        self._keeper.stdout.read()
        if self._keeper.wait() < 0:  # it was killed, so that its work is ours
            try:
                os.kill(said["pid"], signal.SIGKILL)
            except ProcessLookupError:
                pass
            shutil.rmtree(said["folder"], ignore_errors=True)
        self._let_go()
        self.http.close()
        self.gone.set()
        self._ended(self)

    def _let_go(self) -> None:
        notice, self._notice = self._notice, None
        if notice is not None:
            os.close(notice)

    def usable(self, id: str) -> bool:
        """Whether a new use of it may begin in this process, which ends it only after its own uses."""
        return not self.gone.is_set()

    def retire(self) -> None:
        """From now on no other process begins to use it."""
        if self.shared:
            self._place.withdraw(self.id)

    def end(self) -> None:
        """Ends it, and returns when it has gone."""
        self.asked = True
        self._keeper.stdin.close()
        if not self.gone.wait(END_S):
            self._keeper.kill()
            self.gone.wait(END_S)


class Found:
    """A bridge of another worker's, as its notice tells of it; it cannot be ended here."""

    shared = True

    def __init__(self, notice: dict, limits: Limits, pool: int, place: Place):
        self.id, self.gone, self._place = notice["id"], threading.Event(), place
        self.http, self.workspace = _reached(notice, limits, pool)
        threading.Thread(target=self._watch, name="bridge", daemon=True).start()

    def _watch(self) -> None:
        self._place.wait(self.id)
        self.http.close()
        self.gone.set()

    def usable(self, id: str) -> bool:
        return not self.gone.is_set() and (id == self.id or self._place.has(self.id))

    def end(self) -> None:
        """It is its own worker's to end."""


def _reached(said: dict, limits: Limits, pool: int) -> tuple[Http, str]:
    """How a bridge is asked, and the empty folder that it works in."""
    return Http(said["url"], {"Authorization": f"Bearer {said['token']}", "Connection": "close"}, limits, pool,
                direct=True), said["folder"] + "/work"


def bridge_of(command: tuple[str, ...], user: str, backend: str, limits: Limits, pool: int, ended: Callable,
              place: Place | None) -> Bridge | Found:
    """The bridge that another worker has started, else a new one. Raises UpstreamError."""
    if place:
        try:
            with place.starting():
                notice = place.find()
                return Found(notice, limits, pool, place) if notice else Bridge(
                    command, user, backend, limits, pool, ended, place)
        except (OSError, ValueError, KeyError) as error:  # a full disk, say
            log.warning("the SDK's bridge cannot be shared: %s", error)
    return Bridge(command, user, backend, limits, pool, ended)


class Bridges:
    """One bridge at a time, for all threads of a process, and for all that have the same place; none before the
    first lease."""

    def __init__(self, start: Callable[[Callable, Place | None], Bridge | Found], idle: float, pause: float,
                 kept: Callable[[], int] = lambda: 0, clock: Callable[[], float] = time.monotonic):
        """`start(ended, place)` makes a bridge or finds one; `idle` and `pause` are SDK_IDLE_S and RETRY_S;
        `kept()` says how many agents wait in the bridge."""
        self._start, self._idle, self._pause, self._clock, self._kept = start, idle, pause, clock, kept
        self._lock = threading.Lock()
        self._place: Place | None = None
        self._current: Future | None = None
        self._leases = 0  # and those that wait for the bridge
        self._using: dict[str, list] = {}  # by a bridge's id: its leases, and the file that tells others
        self._failures = 0  # ends that nobody asked for since a run last went well
        self._not_before = 0.0
        self._timer: threading.Timer | None = None
        self._kept_at = 0.0  # when agents were last seen to wait in the bridge, in unix seconds
        self._retiring = self._closed = False

    def share(self, folder: Path | None) -> None:
        """From now on there is one bridge for all who have this folder."""
        self._place = folder and Place(folder)

    def lease(self, id: str = "") -> Bridge | Found:
        """The bridge, when it is ready; whoever gets it calls `release` once. Raises UpstreamError, also if it is
        not the one of this `id`."""
        with self._lock:
            self._leases += 1
            if self._timer:
                self._timer.cancel()
                self._timer = None
        try:
            while True:
                with self._lock:
                    future = self._usable(id)
                bridge = future.result()
                if id and bridge.id != id:
                    raise _gone()
                if self._begin(bridge, id):
                    return bridge
                time.sleep(LOOK_S)
        except BaseException:
            self._end_lease()
            raise

    def found(self) -> str:
        """The id of the bridge that this process and the others share; "" if there is none."""
        try:
            return (self._place and self._place.find() or {}).get("id", "")
        except (OSError, ValueError):
            return ""

    def release(self, bridge: Bridge | Found) -> None:
        with self._lock:
            using = self._using[bridge.id]
            using[0] -= 1
            if not using[0]:
                del self._using[bridge.id]
                if using[1] is not None:
                    self._place.leave(using[1])
        self._end_lease()

    def went_well(self) -> None:
        self._failures = 0

    def retire(self) -> None:
        """From now on no other process begins to use this process's bridge, also one that is still starting."""
        self._retiring = True
        if own := self._own():
            own.retire()

    def close(self, seconds: float) -> None:
        """Ends this process's bridge, when nobody uses it or that time is over, and starts none again."""
        with self._lock:
            self._closed, future = True, self._current
            if self._timer:
                self._timer.cancel()
        self.retire()
        end = time.monotonic() + seconds
        while (own := self._own()) and self._in_use(own) and time.monotonic() < end:
            time.sleep(LOOK_S)
        self._finish(future)

    def _begin(self, bridge: Bridge | Found, id: str) -> bool:
        """Counts a lease of this bridge; False if it is just ending, or its own worker has just retired it."""
        with self._lock:
            if bridge.id not in self._using:
                try:
                    self._using[bridge.id] = [0, self._place.use(bridge.id) if bridge.shared else None]
                except BlockingIOError:
                    return False
                except OSError as error:  # its folder has gone: the others have it no more either
                    log.warning("the use of the SDK's bridge cannot be told: %s", error)
                    self._using[bridge.id] = [0, None]
                if type(bridge) is Found and not bridge.usable(id):
                    if (file := self._using.pop(bridge.id)[1]) is not None:
                        os.close(file)
                    return False
            self._using[bridge.id][0] += 1
            return True

    def _end_lease(self) -> None:
        with self._lock:
            self._leases -= 1
            if not self._leases:
                self._set_timer(self._idle)

    def _set_timer(self, seconds: float) -> None:
        """The lock is held."""
        if self._idle and self._current and not self._closed:
            self._timer = threading.Timer(seconds, self._look)
            self._timer.daemon = True
            self._timer.start()

    def _usable(self, id: str) -> Future:
        """The bridge that runs or starts, else one that is found or new. The lock is held."""
        future = self._current
        if future and not (future.done() and (future.exception() or not future.result().usable(id))):
            return future
        left = self._not_before - self._clock()
        if left > 0 or self._closed or id and not (self._place and self._place.has(id)):
            future = Future()
            future.set_exception(_gone() if id else UpstreamError(
                "The SDK's bridge keeps ending; it is started again in a moment", status=503,
                code="bridge_failed", retry_after=max(1.0, left)))
            return future
        future = Future()
        threading.Thread(target=self._make, args=(future,), name="bridge-start", daemon=True).start()
        self._current = future  # not before: a start that fails would leave what nobody makes
        return future

    def _make(self, future: Future) -> None:
        try:
            bridge = self._start(self._ended, self._place)
        except ApiError as error:
            self._failed()
            future.set_exception(error)
        except Exception:  # no thread or process can be had, say
            log.exception("the SDK's bridge did not start")
            self._failed()
            future.set_exception(_not_started())
        else:
            log.info("the SDK's bridge has started" if type(bridge) is Bridge else
                     "the SDK's bridge is another worker's")
            future.set_result(bridge)
            if self._retiring:
                self.retire()

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

    def _own(self) -> Bridge | None:
        """This process's bridge."""
        future = self._current
        found = future and future.done() and not future.exception() and future.result()
        return found if type(found) is Bridge and not found.gone.is_set() else None

    @contextmanager
    def _last_use(self, own: Bridge) -> Iterator[float | None]:
        """When its last use by any worker ended, in unix seconds, and none begins meanwhile; None while it is in
        use."""
        with ExitStack() as stack:
            last = None if own.id in self._using else 0.0
            if own.shared:
                with suppress(OSError):
                    last = stack.enter_context(self._place.unused(own.id))
            yield last

    def _in_use(self, own: Bridge) -> bool:
        with self._last_use(own) as last:
            return last is None

    def _look(self) -> None:
        """Ends this process's bridge if nobody has needed it for so long; else looks again later."""
        own = self._own()
        kept = own and self._kept()
        with self._lock:
            if self._leases or not self._timer:
                return
            self._timer = None
            if not own:
                return
            if kept:
                self._kept_at = time.time()
            with self._last_use(own) as last:
                # Whoever took the last agent that waited may not use it yet.
                left = self._idle if last is None else max(last, self._kept_at) + self._idle - time.time()
                if left > 0:
                    return self._set_timer(min(left, self._idle))
                own.retire()  # while no other worker can begin to use it
            future, self._current = self._current, None
        log.info("the SDK's bridge is ended: nobody has needed it for %g s", self._idle)
        self._finish(future)

    @staticmethod
    def _finish(future: Future | None) -> None:
        if future and wait([future], END_S).done and not future.exception():
            future.result().end()  # a bridge that starts only later ends with this process


def _not_started() -> UpstreamError:
    return UpstreamError("The SDK's bridge did not start; the log says why", status=503, code="bridge_failed")


def _gone() -> UpstreamError:
    return UpstreamError("The agent's bridge has gone", code="upstream_unreachable")
