"""What both of Cursor's interfaces, the Cloud Agents API and the SDK, say alike: refusals as errors of ours, and
the form of a picture.

Trouble with the gateway's key is ours to mend (502); limits are the caller's, and so is trouble with a key of the
caller's own. `said` is Cursor's message and `code` its code, None for none.
"""

from ..errors import KeyRefused, UpstreamError

LIMIT_S = 20  # to wait where a limit names no time
AGAIN_S = 5   # to wait after a failure that a retry can mend


def shown(said: object) -> str:
    """Cursor's message, as an error of ours repeats it."""
    return said[:500] if isinstance(said, str) and said else "no reason given"


def key_refused(said: str, code: str | None, own: bool, forbidden: bool, detail: str = "") -> UpstreamError:
    """`own`: the key was the caller's. `forbidden`: its account, and not the key, is what is wrong. `detail`
    stands before the colon."""
    if not own:
        return KeyRefused(f"Cursor refused the gateway's own key or account{detail}: {said}",
                          code=code or "upstream_key_refused")
    return UpstreamError(f"Cursor refused your key or account{detail}: {said}", status=403 if forbidden else 401,
                         type="permission_error" if forbidden else "authentication_error",
                         code=code if forbidden else "invalid_api_key")


def limit_reached(said: str, code: str | None, wait: float | None) -> UpstreamError:
    """`wait` is in seconds."""
    return UpstreamError(f"Cursor's limit is reached: {said}", status=429, type="requests",
                         code=code or "rate_limit_exceeded", retry_after=wait or LIMIT_S)


def request_refused(said: str, code: str | None) -> UpstreamError:
    return UpstreamError(f"Cursor refused the request: {said}", status=400, type="invalid_request_error",
                         code=code or "upstream_refused")


def run_failed(status: object, said: str) -> UpstreamError:
    """A run that ended, and not as FINISHED."""
    status = status[:60] if isinstance(status, str) and status else "no status"
    code = {"CANCELLED": "run_cancelled", "EXPIRED": "run_expired"}.get(status, "run_failed")
    return UpstreamError(f"Cursor's run ended as {status}: {said}", code=code,
                         retry_after=AGAIN_S if code != "run_failed" else None)


def picture(url: str) -> dict:
    """An image of a prompt."""
    if not url.startswith("data:"):
        return {"url": url}
    kind, _, data = url.removeprefix("data:").partition(";base64,")
    return {"data": data, "mimeType": kind}
