"""gunicorn's settings; each can be replaced on its command line."""

import os

worker_class = "gthread"   # a stream holds a thread for its life
workers = int(os.environ.get("WEB_CONCURRENCY", 1))
threads = int(os.environ.get("THREADS", 64))
bind = f"0.0.0.0:{os.environ.get('PORT', 8002)}"
timeout = 60               # of a worker's heartbeat; gthread never ends a stream by it
graceful_timeout = 30
control_socket_disable = True  # one per user, so a second instance would fight over it
keepalive = 75             # longer than the 60 s that load balancers keep idle connections


def worker_exit(server, worker):
    """Nothing of ours is left running at Cursor when a worker ends."""
    worker.wsgi.service.close()
