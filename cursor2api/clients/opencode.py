"""OpenCode: a provider of its own in the global configuration, over chat completions."""

from . import MAX_TOKENS, NAME, Client, File, Gateway, json_text


def files(gateway: Gateway) -> tuple[File, ...]:
    model = f"cursor2api/{gateway.model}"
    return File("~/.config/opencode/opencode.json", "json", json_text({
        "$schema": "https://opencode.ai/config.json",
        "model": model,
        "agent": {"title": {"disable": True}},
        "provider": {"cursor2api": {
            "npm": "@ai-sdk/openai-compatible",
            "name": NAME,
            "options": {"baseURL": f"{gateway.address}/v1", "apiKey": gateway.key},
            "models": {each.id: {"name": each.id} | (
                {"limit": {"context": each.context, "output": MAX_TOKENS}} if each.context else {})
                for each in gateway.models}}}})),


CLIENT = Client(
    "opencode", "OpenCode", files, "opencode",
    turn_off=("Titles: a second request beside each first message, which costs an agent of its own; "
              "the file turns them off.",),
    cannot=(),
    tried="")
