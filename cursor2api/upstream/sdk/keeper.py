"""The process between a worker and its bridge: shuts the bridge in, and ends it however the worker ends.

    keeper.py [--user NAME] [--temp FOLDER] [--notice FILE] [--start SECONDS] COMMAND...

Prints one JSON line, {"url", "token", "pid", "folder"} once the bridge is ready or {"error"}. When
standard input ends, the notice by which others find the bridge is removed first, then all that the bridge
has started is killed and its folder removed. A lock that the worker had on the notice is held till then.
It is run as a file, by an interpreter that may know none of our packages, and imports none.
"""

import argparse
import ctypes
import json
import os
import pwd
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

READY = "cursor-sdk-bridge ready "  # https://github.com/cursor/sdk-bridge/blob/main/docs/protocol.md
BACKEND = "CURSOR_BACKEND_URL"  # where Cursor is, for the keeper and for the bridge
GRACE_S = 2
SHOWN = 2000  # characters of what the bridge said before it failed
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 36, 38
LINUX = sys.platform == "linux"
LIBC = ctypes.CDLL(None)


class Failed(Exception):
    """The message says why there is no bridge."""


class BridgeProcess:
    """One bridge. `status` is None while it runs, then its exit status."""

    def __init__(self, command: list[str], user: pwd.struct_passwd, folder: Path, backend: str):
        other = user.pw_uid != os.geteuid()
        for name in ("home", "tmp", "work"):
            (folder / name).mkdir(0o700)
            if other and name != "work":
                os.chown(folder / name, user.pw_uid, user.pw_gid)
        (folder / "work").chmod(0o555)
        folder.chmod(0o711 if other else 0o700)
        environ = {"HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp"), "PATH": os.defpath}
        if backend:
            environ[BACKEND] = backend
        identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": ()} if other else {}
        self.user, self.folder, self.status = user, folder, None
        try:
            self._process = subprocess.Popen(
                [*command, "--workspace", str(folder / "work")], cwd=folder / "work", env=environ,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, umask=0o077,
                start_new_session=True, preexec_fn=_bind if LINUX else None, **identity)
        except OSError as error:
            raise Failed(f"{user.pw_name} cannot run {command[0]}: {error}") from error
        self.stderr = self._process.stderr
        os.set_blocking(self.stderr.fileno(), False)

    def ready(self, line: str) -> dict:
        """What the worker needs to know of the bridge, from its own ready line."""
        said = json.loads(line.removeprefix(READY))
        if (said.get("schemaVersion"), said.get("transport"), said.get("protocol")) != (1, "tcp", "connect"):
            raise Failed("the bridge speaks another protocol than sdk.v1 over TCP")
        token = said.get("authToken") or self._read(said["authTokenFile"])
        return {"url": said["url"], "token": token.strip(), "pid": said["pid"], "folder": str(self.folder)}

    def _read(self, path: str) -> str:
        with open(path) as file:  # we may be root: read nothing that is not the bridge's own
            if os.fstat(file.fileno()).st_uid != self.user.pw_uid:
                raise Failed("the bridge's token file is not its own")
            return file.read(1000)

    def reap(self) -> None:
        """Takes the status of every process that has ended; orphans of the bridge are ours too."""
        try:
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                if found[0] == self._process.pid:
                    self.status = self._process.returncode = os.waitstatus_to_exitcode(found[1])
        except ChildProcessError:
            pass

    def end(self) -> None:
        """Asks all processes to end, then makes them."""
        for number, seconds in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, GRACE_S)):
            until = time.monotonic() + seconds
            for id in self._running():
                _signal(id, number)
            while self._running() and time.monotonic() < until:
                time.sleep(0.02)
                if number == signal.SIGKILL:  # those that were born meanwhile
                    for id in self._running():
                        _signal(id, number)

    def _running(self) -> list[int]:
        self.reap()
        if not LINUX:
            return [-self._process.pid] if self.status is None else []
        children: dict[int, list[int]] = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                children.setdefault(int(stat.read_text().rpartition(")")[2].split()[1]), []).append(
                    int(stat.parent.name))
            except OSError:
                pass
        found = list(children.get(os.getpid(), ()))
        for id in found:
            found += children.get(id, ())
        return found


def _bind() -> None:
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _signal(id: int, number: int) -> None:
    try:
        os.killpg(-id, number) if id < 0 else os.kill(id, number)
    except ProcessLookupError:
        pass


def keep(bridge: BridgeProcess, wake: int, start: float) -> None:
    """Returns when the worker or the bridge has gone; `start` is how long it may take to be ready."""
    said, line, deadline = b"", None, time.monotonic() + start
    with selectors.DefaultSelector() as selector:
        for source in (0, wake, bridge.stderr):
            selector.register(source, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select(None if line else max(0, deadline - time.monotonic())):
                data = os.read(key.fd, 65536)
                if key.fd == 0 and not data:
                    return
                if key.fd == wake and signal.SIGTERM in data:
                    return
                if key.fileobj is bridge.stderr:
                    if not data:
                        selector.unregister(bridge.stderr)
                    elif not line:  # later words may quote a prompt: they are read and dropped
                        said = said[-65536:] + data
            bridge.reap()
            words = said.decode(errors="replace")
            if not line:
                line = next((each for each in words.split("\n")[:-1] if each.startswith(READY)), None)
                if line:
                    print(json.dumps(bridge.ready(line)), flush=True)
                elif bridge.status is not None:
                    raise Failed(f"it ended with status {bridge.status}: {words[-SHOWN:].strip()}")
                elif time.monotonic() > deadline:
                    raise Failed(f"it was not ready within {start:g} s: {words[-SHOWN:].strip()}")
            if bridge.status is not None:
                return


def main() -> int:
    parser = argparse.ArgumentParser()
    for name in ("--user", "--temp", "--notice"):
        parser.add_argument(name, default="")
    parser.add_argument("--start", type=float, default=30)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    user = pwd.getpwnam(options.user) if options.user else pwd.getpwuid(os.geteuid())
    wake, wakes = os.pipe()
    for fd in (wake, wakes):
        os.set_blocking(fd, False)
    signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    if LINUX:
        LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    folder, bridge = Path(tempfile.mkdtemp(prefix="cursor2api-bridge-", dir=options.temp or None)), None
    try:
        bridge = BridgeProcess(options.command, user, folder, os.environ.get(BACKEND, ""))
        keep(bridge, wake, options.start)
        return 1 if bridge.status else 0
    except (Failed, OSError, KeyError, ValueError) as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return 1
    finally:
        if options.notice:
            Path(options.notice).unlink(missing_ok=True)
        if bridge:
            bridge.end()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
