"""Qwen Code: its settings in the home folder, over chat completions."""

from . import Client, File, Gateway, json_text


def files(gateway: Gateway) -> tuple[File, ...]:
    return File("~/.qwen/settings.json", "json", json_text({
        "modelProviders": {"openai": [
            {"id": model.id, "name": model.id, "baseUrl": f"{gateway.address}/v1", "envKey": "CURSOR2API_KEY"} | (
                {"generationConfig": {"contextWindowSize": model.context}} if model.context else {})
            for model in gateway.models]},
        "env": {"CURSOR2API_KEY": gateway.key},
        "security": {"auth": {"selectedType": "openai"}},
        "model": {"name": gateway.model},
        "ui": {"enableFollowupSuggestions": False},
        "memory": {"enableManagedAutoMemory": False, "enableManagedAutoDream": False}})),


CLIENT = Client(
    "qwen", "Qwen Code", files, "qwen",
    turn_off=("Suggestions of what to ask next, and its own memory, for which it asks after each conversation: "
              "each costs an agent of its own. The file turns them off.",),
    cannot=(),
    tried="Qwen Code 0.15.10")
