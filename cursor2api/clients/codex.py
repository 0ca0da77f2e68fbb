"""Codex CLI: a profile of its own, over the Responses API; the key is in the environment."""

from . import NAME, Client, File, Gateway, quoted


def files(gateway: Gateway) -> tuple[File, ...]:
    context = gateway.models[0].context
    return File("~/.codex/cursor2api.config.toml", "toml", f"""\
model = {quoted(gateway.model)}
model_provider = "cursor2api"
{f"model_context_window = {context}" + chr(10) if context else ""}\
web_search = "disabled"

[tui]
auto_recap = false

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
    turn_off=("Recaps: each is a request that costs an agent of its own. The file turns them off.",
              "Titles: Codex asks for one at the first message in a terminal, and 0.171 has no switch for it; "
              "codex exec does not ask."),
    cannot=("Web search does not work. The file turns it off.",
            "Codex says that it has no metadata of the model: it then uses its own for unknown models, which "
            "offers no apply_patch, so files are written by commands.",
            "In a long silence Codex gives up if the service has HEARTBEAT=comment or HEARTBEAT=off.",
            "Versions before 0.134 know no such profile: put the lines into ~/.codex/config.toml there."),
    tried="Codex CLI 0.171.0")
