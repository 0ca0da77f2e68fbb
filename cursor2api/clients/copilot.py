"""Copilot CLI: a provider of one's own, which it reads from the environment alone, over chat completions."""

from . import MAX_TOKENS, Client, File, Gateway, exports


def files(gateway: Gateway) -> tuple[File, ...]:
    context = gateway.models[0].context
    return File("~/.copilot/cursor2api.sh", "sh", exports({
        "COPILOT_PROVIDER_TYPE": "openai",
        "COPILOT_PROVIDER_BASE_URL": f"{gateway.address}/v1",
        "COPILOT_PROVIDER_API_KEY": gateway.key,
        "COPILOT_MODEL": gateway.model} | ({
            "COPILOT_PROVIDER_MAX_PROMPT_TOKENS": str(context - MAX_TOKENS),
            "COPILOT_PROVIDER_MAX_OUTPUT_TOKENS": str(MAX_TOKENS)} if context else {}))),


CLIENT = Client(
    "copilot", "Copilot CLI", files, ". ~/.copilot/cursor2api.sh && copilot",
    turn_off=(),
    cannot=(),
    tried="Copilot CLI 1.0.102")
