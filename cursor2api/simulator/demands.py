"""What Cursor demands of a request, as strictly as its own clients show, and how it refuses one."""

import base64
import binascii
import json
import re

from werkzeug.wrappers import Request, Response

PARAMETERS = {"thinking": ("false", "true"), "effort": ("low", "medium", "high")}
VARIANTS = [("false", "low"), ("false", "medium"), ("false", "high"), ("true", "medium"),
            ("true", "high")]
MODELS = [
    {"id": "gemini-3-flash", "displayName": "Gemini 3 Flash", "aliases": ["gemini-flash-latest", "gpt-5.5"]},
    {"id": "claude-sonnet-4-5-20250929", "displayName": "Claude Sonnet 4.5",
     "description": "The one with parameters", "aliases": ["claude-sonnet-latest"],
     "parameters": [{"id": name, "displayName": name.title(),
                     "values": [{"value": value} for value in values]}
                    for name, values in PARAMETERS.items()],
     "variants": [{"params": [{"id": "thinking", "value": pair[0]},
                              {"id": "effort", "value": pair[1]}],
                   "displayName": "Claude Sonnet 4.5", "isDefault": pair == ("false", "medium")}
                  for pair in VARIANTS]},
    {"id": "claude-sonnet-4-20250514", "displayName": "Claude Sonnet 4"},
    {"id": "claude-3-5-sonnet-20241022", "displayName": "Claude 3.5 Sonnet"},
]

# What a body may hold. `metadata`, `runEnvVars` and `openAsCursorGithubApp` come from the SDK only.
RUN_FIELDS = {"prompt": dict, "model": dict, "mode": str, "mcpServers": list,
              "envVars": (dict, list)}
CREATE_FIELDS = RUN_FIELDS | {
    "name": str, "agentId": str, "env": dict, "repos": list, "workOnCurrentBranch": bool,
    "autoCreatePR": bool, "skipReviewerRequest": bool, "customSubagents": list, "metadata": dict,
    "runEnvVars": (dict, list), "openAsCursorGithubApp": bool}
AT_MOST = {"repos": 20, "mcpServers": 50, "customSubagents": 20, "envVars": 50, "images": 5,
           "name": 100}
IMAGE_TYPES = {"image/png", "image/jpeg", "image/gif", "image/webp"}
IMAGE_BYTES = 15 * 2**20
AGENT_ID = re.compile(r"bc-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
CODES = {400: "validation_error", 401: "unauthorized", 403: "feature_unavailable",
         404: "agent_not_found", 409: "agent_busy", 410: "stream_expired",
         429: "rate_limit_exceeded", 500: "internal_error", 503: "upstream_error"}


class Refusal(Exception):
    """An answer that is an error; `page` is an HTML body in place of the documented one."""

    def __init__(self, status, code=None, message=None, headers=None, page=False):
        self.status, self.code, self.headers = status, code or CODES.get(status, "error"), headers
        self.message, self.page = message or f"The simulator says {self.code}", page

    def response(self) -> Response:
        if self.page:
            page = f"<!DOCTYPE html><html><body><h1>{self.status}</h1>{self.message}</body></html>"
            return Response(page, self.status, self.headers, mimetype="text/html")
        return answer({"error": {"code": self.code, "message": self.message}}, self.status,
                      self.headers)


def answer(value: object, status: int = 200, headers: dict | None = None) -> Response:
    return Response(json.dumps(value), status, headers, mimetype="application/json")


def check_fields(value: object, fields: dict, where: str) -> None:
    if not isinstance(value, dict):
        raise Refusal(400, "validation_error", f"{where}: expected an object")
    if unknown := value.keys() - fields.keys():
        names = ", ".join(f"'{name}'" for name in sorted(unknown))
        raise Refusal(400, "validation_error", f"{where}: Unrecognized key(s) in object: {names}")
    for name, content in value.items():
        if not isinstance(content, fields[name]):
            raise Refusal(400, "validation_error", f"{where}.{name}: wrong type")
        if name in AT_MOST and len(content) > AT_MOST[name]:
            raise Refusal(400, "validation_error", f"{where}.{name}: at most {AT_MOST[name]}")


def check_image(image: object, where: str) -> None:
    check_fields(image, {"data": str, "mimeType": str, "url": str, "dimension": dict}, where)
    if ("data" in image) == ("url" in image):
        raise Refusal(400, "validation_error", f"{where}: expected either data or url")
    if "data" in image:
        if image.get("mimeType") not in IMAGE_TYPES:
            raise Refusal(400, "validation_error", f"{where}.mimeType: png, jpeg, gif or webp")
        try:
            size = len(base64.b64decode(image["data"], validate=True))
        except binascii.Error:
            raise Refusal(400, "validation_error", f"{where}.data: not base64") from None
        if not 0 < size <= IMAGE_BYTES:
            raise Refusal(400, "validation_error", f"{where}.data: 1 byte to 15 MB")


def check_model(model: dict, unknown: str) -> dict:
    """The model as {id, params}, its id no alias; `unknown` is the code for one not there."""
    check_fields(model, {"id": str, "params": list}, "model")
    name, params = model.get("id"), model.get("params", [])
    names = {name: entry for entry in MODELS for name in (entry["id"], *entry.get("aliases", ()))}
    entry = names.get(name)
    if not entry:
        raise Refusal(400, unknown, f"Model '{name}' is not available")
    for param in params:
        check_fields(param, {"id": str, "value": str}, "model.params")
    chosen = {param.get("id"): param.get("value") for param in params}
    variants = [{param["id"]: param["value"] for param in variant["params"]}
                for variant in entry.get("variants", ())]
    if chosen and chosen not in variants:
        raise Refusal(400, "validation_error", f"model.params: no variant of {name} has {chosen}")
    return {"id": entry["id"], "params": chosen}


def check_body(request: Request, fields: dict) -> dict:
    data = request.get_data()
    if not data:
        raise Refusal(400, "missing_body", "A JSON body is required")
    try:
        body = json.loads(data)
    except ValueError:
        raise Refusal(400, "validation_error", "The body is not JSON") from None
    check_fields(body, fields, "body")
    check_fields(body.get("prompt"), {"text": str, "images": list}, "prompt")
    if not body["prompt"].get("text"):
        raise Refusal(400, "validation_error", "prompt.text: at least 1 character")
    for n, image in enumerate(body["prompt"].get("images", ())):
        check_image(image, f"prompt.images[{n}]")
    if body.get("mode", "agent") not in ("agent", "plan"):
        raise Refusal(400, "validation_error", "mode: agent or plan")
    return body
