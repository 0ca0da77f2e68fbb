"""Codex CLI: a profile of its own, over the Responses API; the key is in the environment."""

from . import NAME, Client, File, Gateway, quoted


def files(gateway: Gateway) -> tuple[File, ...]:
    context = gateway.models[0].context
    return File("~/.codex/cursor2api.config.toml", "toml", f"""\
model = {quoted(gateway.model)}
model_provider = "cursor2api"
{f"model_context_window = {context}" + chr(10) if context else ""}\
web_search = "disabled"

[model_providers.cursor2api]
name = "{NAME}"
base_url = {quoted(gateway.address + "/v1")}
env_key = "CURSOR2API_KEY"
wire_api = "responses"
request_max_retries = 1
stream_max_retries = 1
"""),


CLIENT = Client(
    "codex", "Codex CLI", files, "CURSOR2API_KEY=__KEY__ codex --profile cursor2api",
    turn_off=("Web search: the service cannot do it. The file turns it off.",),
    cannot=("The file is a profile, which Codex before 0.134 does not know: put its lines into "
            "~/.codex/config.toml there.",),
    tried="Codex CLI 0.171.0")
