"""Cline: the provider that its command line was last used with, over chat completions."""

from . import Client, File, Gateway, json_text


def files(gateway: Gateway) -> tuple[File, ...]:
    return File("~/.cline/data/settings/providers.json", "json", json_text({
        "version": 1,
        "lastUsedProvider": "openai-compatible",
        "providers": {"openai-compatible": {
            "settings": {"provider": "openai-compatible", "apiKey": gateway.key, "model": gateway.model,
                         "baseUrl": f"{gateway.address}/v1"},
            "updatedAt": "2026-01-01T00:00:00.000Z",
            "tokenSource": "manual"}}})),


CLIENT = Client(
    "cline", "Cline", files, "cline",
    turn_off=(),
    cannot=("The file is for the command line. In the extension for VS Code choose OpenAI Compatible, and enter "
            "the same base URL, key and model.",),
    tried="Cline CLI 3.0.65")
