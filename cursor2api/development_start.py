"""The development start (`make run`, `python app.py`): gunicorn, and a simulator if there is no upstream.

First come the settings, the port and the model list: what is wrong with one of them ends the start with one
sentence. The banner follows when gunicorn answers, so that the curl in it works.
"""

import errno
import http.client
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from textwrap import indent

from .config import DEVELOPMENT_KEY, INSTALL_SDK, Config
from .doctor.doctor import ADVICE, KEYS
from .errors import ApiError, KeyRefused
from .models import read_model
from .start import GLIBC_TUNABLES, ROOT, make_upstream, read_config

OWN_HOSTS = ("127.0.0.1", "localhost")  # only there can 0000 be good: see server/development.py
ANY_HOST = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # by which this machine reaches itself


def main() -> int:
    """Serves until a signal comes. Returns gunicorn's exit status."""
    config = read_config()
    host = config.host or OWN_HOSTS[0]
    listener = _listen(host, config.port)
    port = listener.getsockname()[1]
    started, settings = [], {}
    try:
        simulated = config.upstream_in_use is None
        if simulated:
            simulator = _start_simulator()
            started.append(simulator)
            settings = {"UPSTREAM": "simulator", "CURSOR_API_KEY": "simulator",
                        "CURSOR_BASE_URL": simulator.stdout.readline().strip()}
            config = read_config(**settings)
        model = _first_model(config)
        server = _start_gunicorn(listener, host in OWN_HOSTS, settings)
        started.append(server)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: server.terminate())
        if _answers(ANY_HOST.get(host, host), port):
            print(_banner(config, host, port, model, simulated), flush=True)
        return _status(server)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait()


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens, for gunicorn to inherit. Ends the process if there can be none."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            sys.exit(f"cursor2api: port {port} is taken: PORT={port + 1} make run")
        reason = error.strerror.partition(" (")[0]
        sys.exit(f"cursor2api: cannot listen on {host}, port {port}: {reason}")


def _start_simulator() -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "cursor2api.simulator", "--port", "0", "--until-eof"], cwd=ROOT,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)


def _start_gunicorn(listener: socket.socket, development: bool, settings: dict[str, str]) -> subprocess.Popen:
    """From here on the socket is gunicorn's alone: when it ends, whoever waits to be let in is told so."""
    with listener:
        return subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "--bind", f"fd://{listener.fileno()}",
             f"cursor2api.start:application({development=})"],
            cwd=ROOT, env={"GLIBC_TUNABLES": GLIBC_TUNABLES, **os.environ, **settings}, start_new_session=True,
            pass_fds=[listener.fileno()])


def _status(server: subprocess.Popen) -> int:
    """Waits for gunicorn's end. No wait is long: a signal that comes just before one begins is heard after it."""
    while True:
        with suppress(subprocess.TimeoutExpired):
            return server.wait(timeout=1)


def _first_model(config: Config) -> str:
    """The id of a model to show; MODEL if the list cannot be had now. Ends the process if the key is refused."""
    listed = []
    if config.cursor_api_key and config.upstream_in_use != "uistream":
        try:
            listed = make_upstream(config).models()
        except KeyRefused as error:
            advice = ADVICE.get(error.code, f"check CURSOR_API_KEY: {KEYS}")
            sys.exit(f"cursor2api: {error}\n{advice}")
        except ApiError as error:
            print(f"cursor2api: the model list could not be fetched: {error}", file=sys.stderr)
    ids = [model.id for model in map(read_model, listed) if model]
    return [*config.models, *ids, "MODEL"][0]


def _answers(host: str, port: int) -> bool:
    """Waits for the first answer; False if gunicorn ends before it."""
    connection = http.client.HTTPConnection(host, port)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _banner(config: Config, host: str, port: int, model: str, simulated: bool) -> str:
    near = ANY_HOST.get(host, host)
    base = f"http://{f'[{near}]' if ':' in near else near}:{port}"
    lines = [f"Base URL   {base}/v1" + ("; elsewhere with this machine's address" if host in ANY_HOST else "")]
    key = DEVELOPMENT_KEY if host in OWN_HOSTS else "YOUR_KEY"
    if config.api_key:
        key = config.api_key[0][1]
        key = f"{key[:2]}...{key[-2:]}" if len(key) > 8 else "..."
    has_key = host in OWN_HOSTS or config.api_key or config.api_key_file or config.key_passthrough
    lines.append(f"API key    {key if has_key else f'none is good, because HOST is {host}: set API_KEY'}")
    lines.append(f"Upstream   {config.upstream_in_use}" + (
        ": no CURSOR_API_KEY is set, so a simulator answers, with made-up text" if simulated else ""))
    if config.upstream_in_use == "cloud":
        lines.append("Time       first answer of a conversation: about a minute")
        if config.upstream == "auto":
            lines.append(f"Faster     {INSTALL_SDK}: Cursor's SDK, 174 MB, boots no machine; see README.md")
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello"}]})
    lines += ["", f'curl {base}/v1/chat/completions -H "Authorization: Bearer {key}" \\',
              f'  -H "Content-Type: application/json" -d {shlex.quote(body)}']
    return "\n" + indent("\n".join(lines), "  ") + "\n"
