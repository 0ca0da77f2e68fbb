"""aider: a file for its options, and one for the windows of models. https://aider.chat/docs/config"""

from . import Client, File, Service, as_json, quoted


def files(service: Service) -> tuple[File, ...]:
    model = quoted(f"openai/{service.model}")
    options = File("~/.aider.conf.yml", "yaml", (
        f"openai-api-base: {quoted(service.base)}\nopenai-api-key: {quoted(service.key)}\nmodel: {model}\n"
        f"weak-model: {model}\nauto-commits: false\n"))
    windows = {f"openai/{model.id}": {
        "max_input_tokens": model.context, "max_tokens": 32_000, "litellm_provider": "openai", "mode": "chat"}
        for model in service.models if model.context}
    return (options, File("~/.aider.model.metadata.json", "json", as_json(windows))) if windows else (options,)


CLIENT = Client(
    "aider", "aider", files, "aider",
    ("auto-commits is off, as aider has a model write each commit's message: that costs an agent each time.",),
    ("aider asks for edits as text and uses no tools.",),
    "aider 0.86.2, by hand")
