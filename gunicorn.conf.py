"""gunicorn's settings; each can be replaced on its command line."""

import gc
import os
import resource
import shutil
import signal
import sys
from functools import partial
from pathlib import Path

# With it prometheus_client would count in files that it maps into memory: a full disk would kill the worker.
os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
sys.path.insert(0, str(Path(__file__).resolve().parent))

from gunicorn.glogging import Logger  # noqa: E402

from cursor2api.logs import settings  # noqa: E402
from cursor2api.server import counts  # noqa: E402
from cursor2api.server.service import STOP_S  # noqa: E402
from cursor2api.server.slots import UNPROVEN  # noqa: E402
from cursor2api.start import read_config  # noqa: E402

options = read_config()
# Figures are of bench/run.py on two cores; `--set` repeats them.
worker_class = "cursor2api.server.worker.Worker"  # a stream holds a thread for its life
# One keeps all agents and counts together. A delta costs the same with two, and a third more with four.
workers = options.web_concurrency
# Threads start when they are needed; too few refuse: of 500 streams begun at once on 2 x 260, two got 503.
threads = options.threads + (2 * UNPROVEN if options.key_passthrough else 0)
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
host = options.host or "0.0.0.0"
bind = f"[{host}]:{options.port}" if ":" in host else f"{host}:{options.port}"
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


def pre_fork(server, worker):
    """All workers share a folder, the same after a reload: for the store, and several for their counts."""
    if not hasattr(server, "folder"):
        server.folder = counts.new_folder()
    worker.folder = server.folder
    worker.counts = server.folder if server.num_workers > 1 else None


def post_worker_init(worker):
    """SIGTERM drains first: the worker goes on answering, /ready with 503, while replies end."""
    service = worker.wsgi.service

    def drain():
        if service.replaced:  # the others take what comes: nothing is refused here
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

    signal.signal(signal.SIGUSR2, lambda *_: setattr(service, "replaced", True))
    signal.signal(signal.SIGTERM, partial(on_loop, drain))
    service.start(worker.folder)
    if worker.counts:
        service.metrics.share(worker.counts, str(worker.age))
    gc.freeze()  # a full collection need not look at what stays: 3 ms in which nothing else ran


def worker_exit(server, worker):
    """Nothing of ours is left running at Cursor when a worker ends."""
    if hasattr(worker, "wsgi"):  # it may have ended before it had one
        worker.wsgi.service.close()
        worker.wsgi.service.metrics.save()


def child_exit(server, worker):
    if worker.counts:
        counts.add_ended(worker.counts, str(worker.age))


def on_exit(server):
    if folder := getattr(server, "folder", None):
        shutil.rmtree(folder, ignore_errors=True)
