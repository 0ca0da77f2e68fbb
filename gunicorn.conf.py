"""gunicorn's settings; each can be replaced on its command line."""

import atexit
import gc
import os
import re
import resource
import secrets
import shutil
import signal
import sys
import tempfile
from functools import partial
from pathlib import Path

# Where the workers share their counts; it must be known before prometheus_client is imported. One of ours
# bears its master's id: after SIGHUP it serves on, after USR2 the new master does not rely on it.
directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR", "")
ours = not directory or bool(re.search(r"/cursor2api-\d+-[0-9a-f]{16}$", directory))
if ours and f"/cursor2api-{os.getpid()}-" not in directory:
    directory = f"{tempfile.gettempdir()}/cursor2api-{os.getpid()}-{secrets.token_hex(8)}"
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
sys.path.insert(0, str(Path(__file__).resolve().parent))

from gunicorn.glogging import Logger  # noqa: E402

from app import read_config  # noqa: E402
from cursor2api.logs import settings  # noqa: E402
from cursor2api.server.service import STOP_S  # noqa: E402

options = read_config()
if ours:
    os.makedirs(directory, 0o700, exist_ok=True)
    # A start that fails at its port calls no hook; a worker, which this is inherited by, removes nothing.
    atexit.register(lambda master: os.getpid() == master and on_exit(None), os.getpid())
# Figures are of bench/run.py on two cores; `--set` repeats them.
worker_class = "cursor2api.server.worker.Worker"  # a stream holds a thread for its life
# One keeps all agents and counts together. A delta costs the same with two, and a third more with four.
workers = options.web_concurrency
# Threads start when they are needed; too few refuse: of 500 streams begun at once on 2 x 260, two got 503.
threads = options.threads
# What is over threads may be idle, as clients and routers keep connections; when all are taken not even
# a health check is let in. None to spare made a delta's delay ten times as long (p99, 500 begun at once).
worker_connections = max(1000, 2 * threads)
# A stream has two descriptors, and as many idle ones may wait for the next; often only 1024 are allowed.
files = 2 * worker_connections + 100
allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
if resource.RLIM_INFINITY != allowed < files:
    files = files if most == resource.RLIM_INFINITY else min(files, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, most))
backlog = 2048             # with 64 the slowest of 500 streams begun at once waited 4.7 s, not 1.6
bind = f"0.0.0.0:{options.port}"
timeout = 60               # of a worker's heartbeat; it never ends a stream
graceful_timeout = int(options.grace_s + STOP_S) + 1  # after that the master kills its workers
control_socket_disable = True  # one per user, so a second instance would fight over it
keepalive = 75             # longer than the 60 s that load balancers keep idle connections
logconfig_dict = settings(options.log_format, options.debug)


class logger_class(Logger):
    """gunicorn's, without what is no news."""

    def access(self, resp, req, environ, request_time):
        """Our own line tells of each request; gunicorn would gather its facts only to log none."""

    def exception(self, msg, *args, **kwargs):
        """A caller who took nothing for SEND_TIMEOUT has left: gunicorn would log a fault."""
        if not isinstance(sys.exc_info()[1], BlockingIOError):
            super().exception(msg, *args, **kwargs)


def pre_exec(server):
    """SIGUSR2: gunicorn repeats `python path/of/gunicorn/__main__.py` where `python -m gunicorn` was said."""
    args = server.START_CTX["args"]
    if Path(args[1]).name == "__main__.py":
        args[1:2] = ["-m", "gunicorn"]


def on_reload(server):
    """SIGHUP: the workers that there are hear that others will take their place, and then SIGTERM."""
    server.kill_workers(signal.SIGUSR2)


def post_worker_init(worker):
    """SIGTERM drains first: the worker goes on answering, /ready with 503, while replies end."""
    service, replaced = worker.wsgi.service, []

    def drain():
        if replaced:  # the others take what comes: nothing is refused here
            worker.worker_connections = worker.max_keepalived = 0
            worker.set_accept_enabled(False)
            worker.murder_keepalived(force=True)
        service.drain(partial(on_loop, end))

    def end():
        worker.handle_exit(signal.SIGTERM, None)
        for connection in worker.pending_conns:  # on which nothing has come
            connection.timeout = 0

    def on_loop(call, *_):
        worker.method_queue.defer(call)

    signal.signal(signal.SIGUSR2, lambda *_: replaced.append(True))
    signal.signal(signal.SIGTERM, partial(on_loop, drain))
    service.start()
    gc.freeze()  # a full collection need not look at what stays: 3 ms in which nothing else ran


def worker_exit(server, worker):
    """Nothing of ours is left running at Cursor when a worker ends."""
    if hasattr(worker, "wsgi"):  # it may have ended before it had one
        worker.wsgi.service.close()


def child_exit(server, worker):
    """Gauges of a worker that has ended count no longer."""
    from prometheus_client.multiprocess import mark_process_dead
    mark_process_dead(worker.pid, directory)


def on_exit(server):
    if ours:
        shutil.rmtree(directory, ignore_errors=True)
