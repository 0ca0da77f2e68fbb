"""Roo Code: a file for Import in its settings, over chat completions."""

from . import MAX_TOKENS, Client, File, Gateway, json_text


def files(gateway: Gateway) -> tuple[File, ...]:
    context = gateway.models[0].context
    return File("roo-code-settings.json", "json", json_text({"providerProfiles": {
        "currentApiConfigName": "cursor2api",
        "apiConfigs": {"cursor2api": {
            "id": "cursor2api", "apiProvider": "openai", "openAiBaseUrl": f"{gateway.address}/v1",
            "openAiApiKey": gateway.key, "openAiModelId": gateway.model, "openAiStreamingEnabled": True,
        } | ({"openAiCustomModelInfo": {
            "maxTokens": MAX_TOKENS, "contextWindow": context, "supportsImages": True,
            "supportsPromptCache": False}} if context else {})}}})),


CLIENT = Client(
    "roo", "Roo Code", files, None,
    turn_off=("Enhance Prompt: each use is a request that costs an agent of its own.",),
    cannot=("Roo Code reads the file only when you import it: Settings, About Roo Code, Import.",
            "Codebase indexing does not work, because the service has no embeddings."),
    tried="")
