"""Zed: a provider in its settings; its key is a variable. https://zed.dev/docs/ai/llm-providers"""

from . import Client, File, Service, as_json


def files(service: Service) -> tuple[File, ...]:
    models = [{"name": model.id, "display_name": model.id, "max_tokens": model.context or 200_000,
               "capabilities": {"tools": True, "images": True, "parallel_tool_calls": True,
                                "prompt_cache_key": False}}
              for model in service.models]
    chosen = {"provider": "Cursor2API", "model": service.model}
    return (
        File("~/.config/zed/settings.json", "json", as_json({
            "language_models": {"openai_compatible": {"Cursor2API": {
                "api_url": service.base, "available_models": models}}},
            "agent": {"default_model": chosen, "thread_summary_model": chosen}})),
        File("", "sh", f"export CURSOR2API_API_KEY='{service.key}'\n"))


CLIENT = Client(
    "zed", "Zed", files, "zed",
    ("Zed makes a title for each thread with thread_summary_model, and cannot be told not to: each costs an "
     "agent.",),
    ("Edit predictions stay with Zed.",),
    "not tried")
