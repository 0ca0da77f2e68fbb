"""The page over HTTP: files that are read and packed once, at the start, each under an ETag of its own."""

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Request, Response

KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".json": "application/json",
         ".svg": "image/svg+xml"}
HEADERS = {
    # The browser itself refuses inline script, HTML made of text, and every other host.
    "Content-Security-Policy": "; ".join((
        "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self'",
        "connect-src 'self'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
        "require-trusted-types-for 'script'", "trusted-types 'none'")),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-cache",  # asked for again each time, and answered by 304
}


@dataclass(frozen=True)
class File:
    kind: str
    data: bytes
    packed: bytes
    etag: str


def read(folder: Path, **made: bytes) -> dict[str, File]:
    """The files of a folder by name, and those that were `made` in memory, as name=data."""
    found = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in KINDS}
    return {name: File(KINDS[Path(name).suffix], data, gzip.compress(data, mtime=0),
                       hashlib.sha256(data).hexdigest()[:32])
            for name, data in (found | made).items()}


def send(request: Request, files: Mapping[str, File], name: str) -> Response:
    """A file, or 304 if the caller has it already. Raises NotFound."""
    if name not in files:
        raise NotFound
    file = files[name]
    packed = request.accept_encodings["gzip"] > 0
    response = Response(file.packed if packed else file.data, mimetype=file.kind, headers=HEADERS)
    response.vary.add("Accept-Encoding")
    if packed:
        response.content_encoding = "gzip"
    response.set_etag(f"{file.etag}-gzip" if packed else file.etag)
    return response.make_conditional(request)
