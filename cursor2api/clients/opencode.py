"""OpenCode: a provider of the AI SDK's kind in its configuration. https://opencode.ai/docs/providers"""

from . import Client, File, Model, Service, as_json

OUTPUT = 32_000  # tokens that a reply may have


def provider(service: Service) -> dict:
    """The part that OpenCode and its fork Kilo share: a provider, its models, and none that makes titles."""
    return {
        "provider": {"cursor2api": {
            "npm": "@ai-sdk/openai-compatible", "name": "Cursor2API",
            "options": {"baseURL": service.base, "apiKey": service.key},
            "models": {model.id: described(model) for model in service.models}}},
        "model": f"cursor2api/{service.model}", "small_model": f"cursor2api/{service.model}",
        "agent": {"title": {"disable": True}}}


def described(model: Model) -> dict:
    limit = {"limit": {"context": model.context, "output": OUTPUT}} if model.context else {}
    return {"name": model.id, "attachment": True, "tool_call": True, **limit}


def files(service: Service) -> tuple[File, ...]:
    return File("~/.config/opencode/opencode.json", "json", as_json({
        "$schema": "https://opencode.ai/config.json", **provider(service)})),


CLIENT = Client(
    "opencode", "OpenCode", files, "opencode",
    ("The agent that makes titles is off: each title would cost an agent at Cursor of its own.",),
    ("Its own web search needs OpenCode's servers.",),
    "OpenCode 1.18.33")
