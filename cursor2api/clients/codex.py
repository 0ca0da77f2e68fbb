"""Codex CLI: a model provider in its configuration, over the Responses API; the key is in the environment."""

from . import NAME, Client, File, Gateway, quoted


def files(gateway: Gateway) -> tuple[File, ...]:
    context = gateway.models[0].context
    return File("~/.codex/config.toml", "toml", f"""\
model = {quoted(gateway.model)}
model_provider = "cursor2api"
{f"model_context_window = {context}" if context else ""}
[model_providers.cursor2api]
name = "{NAME}"
base_url = {quoted(gateway.address + "/v1")}
env_key = "CURSOR2API_KEY"
wire_api = "responses"
request_max_retries = 1
stream_max_retries = 1
"""),


CLIENT = Client(
    "codex", "Codex CLI", files, "CURSOR2API_KEY=__KEY__ codex",
    turn_off=(), cannot=(), tried="")
