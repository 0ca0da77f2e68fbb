"""Roo Code: a file of settings to import, in its settings under About. https://docs.roocode.com"""

from . import Client, File, Service, as_json


def files(service: Service) -> tuple[File, ...]:
    window = {"contextWindow": service.models[0].context} if service.models[0].context else {}
    profile = {"id": "cursor2api", "apiProvider": "openai", "openAiBaseUrl": service.base,
               "openAiApiKey": service.key, "openAiModelId": service.model,
               "openAiCustomModelInfo": {"maxTokens": -1, "supportsImages": True, "supportsPromptCache": False,
                                         **window}}
    return File("~/roo-code-settings.json", "json", as_json({
        "providerProfiles": {"currentApiConfigName": "cursor2api", "apiConfigs": {"cursor2api": profile}}})),


CLIENT = Client(
    "roo", "Roo Code", files, None,
    ("Import the file under Settings, About, Import.",
     "Turn off the enhancing of prompts with a model of its own: it costs an agent each time."),
    ("The index of a code base needs embeddings, which are not there.",),
    "not tried")
