"""The endpoints that are no chats: plain functions of (request, service); and the map of all URLs.

An ApiError that is raised is the answer.
"""

import re
import time
from collections.abc import Iterable
from contextlib import nullcontext
from urllib.parse import unquote

from werkzeug.routing import Map, MapAdapter, Rule
from werkzeug.wrappers import Response

from . import page as site
from ..dialects import Dialect, Route
from ..dialects.served import DIALECTS
from ..errors import ApiError
from ..models import MAX_TOKENS, THINKING
from .deadline import Deadline
from .metrics import CONTENT_TYPE
from .request import ApiRequest, json_response
from .service import Service


def health(request: ApiRequest, service: Service) -> Response:
    return json_response({"status": "ok", "timestamp": int(time.time())})


def ready(request: ApiRequest, service: Service) -> Response:
    trouble = service.trouble()
    if trouble is None:
        return json_response({"status": "ready"})
    request.record.error = trouble
    return json_response({"status": "not ready", "code": trouble.code, "reason": trouble.message},
                         trouble.headers(), 503)


def page(request: ApiRequest, service: Service) -> Response:
    """The page in the language that its address asks for, else in the one that the browser prefers."""
    wanted = request.args.get("language") or request.accept_languages.best_match(("en", "zh")) or "en"
    response = site.send(request, service.files, "zh.html" if wanted == "zh" else "index.html")
    response.vary.add("Accept-Language")
    return response


def page_file(request: ApiRequest, service: Service, name: str) -> Response:
    return site.send(request, service.files, name)


def page_data(request: ApiRequest, service: Service) -> Response:
    return site.send(request, service.files, "reference.json")


def client_data(request: ApiRequest, service: Service) -> Response:
    return site.send(request, service.files, "clients.json")


def openapi(request: ApiRequest, service: Service) -> Response:
    return site.send(request, service.files, "openapi.json")


def metrics(request: ApiRequest, service: Service) -> Response:
    if request.caller.upstream_key:
        raise ApiError("The metrics are for this service's own keys", status=403,
                       type="invalid_request_error", code="own_key_required")
    return Response(service.metrics.text(), content_type=CONTENT_TYPE)


def list_models(request: ApiRequest, service: Service) -> Response:
    models, form = _model_objects(request, service), request.dialect.models
    return json_response(form.page(models, request.args.to_dict()) if form else {"object": "list", "data": models})


def get_model(request: ApiRequest, service: Service, model: str) -> Response:
    name = unquote(model)
    for item in _model_objects(request, service):
        if item["id"] == name:
            return json_response(request.dialect.models.one(item) if request.dialect.models else item)
    raise ApiError(f"The model {name!r} does not exist", status=404, type="invalid_request_error",
                   code="model_not_found", param="model")


def _model_objects(request: ApiRequest, service: Service) -> list[dict]:
    key = request.caller.upstream_key
    service.check_upstream(key)
    allowed = service.keys.limit(request.caller).models
    with service.slot(1) if service.models.waits(key) else nullcontext():
        models = service.models.all(key, Deadline(request, service).look)
    return [{"id": model.id + suffix, "object": "model", "created": service.models.created,
             "owned_by": "cursor2api", "max_tokens": MAX_TOKENS,
             **dict.fromkeys(("context_window", "context_length", "max_model_len"), model.context_window)}
            for model in models if allowed is None or model.id in allowed
            for suffix in ("", THINKING)]


LONGEST = 6  # parts of a path that are looked at for one of ours
OPEN = {page, page_file, page_data, client_data, openapi, health, ready}  # endpoints that need no key
WHAT = {
    page: "The page that shows what this is and lets one try it",
    page_file: "A file of the page",
    page_data: "What the page shows of the service: routes, parameters, errors, settings, version",
    client_data: "What clients need to use this: their files, with `__ADDRESS__`, `__KEY__` and `__MODEL__`",
    openapi: "The API as an OpenAPI 3.1 document",
    health: '`{"status": "ok", "timestamp": 1795393051}`; waits for nobody',
    ready: "200 when there are models and Cursor answers, else 503 with the reason",
    metrics: "Counts in the Prometheus text format",
    list_models: "The models",
    get_model: "One model",
}  # what each endpoint answers


def urls(dialects: Iterable[Dialect] = DIALECTS) -> Map:
    """From paths to endpoints; a dialect stands for its own."""
    return Map([
        Rule("/", endpoint=page, methods=["GET"]),
        Rule("/static/<name>", endpoint=page_file, methods=["GET"]),
        Rule("/reference.json", endpoint=page_data, methods=["GET"]),
        Rule("/clients.json", endpoint=client_data, methods=["GET"]),
        Rule("/openapi.json", endpoint=openapi, methods=["GET"]),
        Rule("/health", endpoint=health, methods=["GET"]),
        Rule("/ready", endpoint=ready, methods=["GET"]),
        Rule("/metrics", endpoint=metrics, methods=["GET"]),
        *(Rule(prefix + path, endpoint=endpoint, methods=["GET"])
          for prefix in ("", "/v1")
          for path, endpoint in (("/models", list_models), ("/models/<path:model>", get_model))),
        *(Rule(path, endpoint=dialect, methods=["POST"]) for dialect in dialects for path in dialect.paths),
        *(Rule(path, endpoint=route, methods=[route.method]) for dialect in dialects for route in dialect.routes
          for path in route.paths),
    ], strict_slashes=False, merge_slashes=False)


def instead(routes: MapAdapter, method: str, path: str) -> str | None:
    """The path of ours that a path ends with: then the caller's base URL is too long."""
    path = path.rstrip("/")
    parts = path.lstrip("/").split("/")[-LONGEST:]
    for at in range(len(parts)):
        for found in ("/v1/", "/"):
            if found + (rest := "/".join(parts[at:])) != path and routes.test(found + rest, method):
                return found + rest
    return None


def routes() -> list[dict]:
    """The URL map as data: {"method", "path", "key", "what"}, without the twins that lack /v1."""
    rules = list(urls().iter_rules())
    paths = {rule.rule for rule in rules}
    return [{"method": min(rule.methods - {"HEAD"}), "path": re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule),
             "key": rule.endpoint not in OPEN, "what": _what(rule.endpoint)}
            for rule in rules if "/v1" + rule.rule not in paths]


def _what(endpoint) -> str:
    return endpoint.what if isinstance(endpoint, (Dialect, Route)) else WHAT[endpoint]
