"""Log lines: one line a record, logfmt (key=value) or JSON, with the facts that a record carries."""

import json
import logging
import re
import time

PLAIN = re.compile(r'[!#-<>-~]+')  # what needs no quotes: neither spaces, " nor =


class Formatter(logging.Formatter):
    """A record's `facts` (a dict in `extra`) follow its time, level and message; None and "" do not."""

    def __init__(self, format: str = "logfmt"):
        super().__init__()
        self._write = json.dumps if format == "json" else _logfmt

    def format(self, record: logging.LogRecord) -> str:
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {"time": f"{seconds}.{record.msecs:03.0f}Z", "level": record.levelname.lower(),
                "message": record.getMessage(), **getattr(record, "facts", {})}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return self._write({name: value for name, value in line.items() if value not in (None, "")})


def _logfmt(line: dict) -> str:
    pairs = []
    for name, value in line.items():
        text = str(value)
        if not PLAIN.fullmatch(text):
            text = json.dumps(text)
        pairs.append(f"{name}={text}")
    return " ".join(pairs)


def settings(format: str, debug: bool) -> dict:
    """The configuration of the logging package, for this service and for gunicorn alike."""
    ours = {"handlers": ["stderr"], "propagate": False}
    return {
        "version": 1, "disable_existing_loggers": False,
        "formatters": {"line": {"()": "cursor2api.logs.Formatter", "format": format}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"handlers": ["stderr"], "level": "WARNING"},
        # urllib3 warns of each answer with bad headers, and quotes them; what comes of it is logged by us.
        "loggers": {"urllib3": {**ours, "level": "CRITICAL"},
                    "cursor2api": {**ours, "level": "DEBUG" if debug else "INFO"},
                    "gunicorn.error": {**ours, "level": "INFO"},
                    "gunicorn.access": {**ours, "level": "WARNING"}}}
