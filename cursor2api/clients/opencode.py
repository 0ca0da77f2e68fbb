"""OpenCode: a provider of its own in the global configuration, over chat completions."""

from . import MAX_TOKENS, NAME, Client, File, Gateway, json_text


def configuration(gateway: Gateway, schema: str) -> str:
    """The configuration of OpenCode, and of Kilo Code, which is made from it."""
    return json_text({
        "$schema": schema,
        "model": f"cursor2api/{gateway.model}",
        "agent": {"title": {"disable": True}},
        "provider": {"cursor2api": {
            "npm": "@ai-sdk/openai-compatible",
            "name": NAME,
            "options": {"baseURL": f"{gateway.address}/v1", "apiKey": gateway.key},
            "models": {model.id: {"name": model.id} | (
                {"limit": {"context": model.context, "output": MAX_TOKENS}} if model.context else {})
                for model in gateway.models}}}})


def files(gateway: Gateway) -> tuple[File, ...]:
    return File("~/.config/opencode/opencode.json", "json", configuration(
        gateway, "https://opencode.ai/config.json")),


CLIENT = Client(
    "opencode", "OpenCode", files, "opencode",
    turn_off=("Titles of sessions: each is a request beside the first message and costs an agent of its own. "
              "The file turns them off.",),
    cannot=(),
    tried="OpenCode 1.18.33")
