"""aider: its configuration in the home folder, and what it has to know of the models, over chat completions."""

from . import MAX_TOKENS, Client, File, Gateway, json_text, quoted


def files(gateway: Gateway) -> tuple[File, ...]:
    model = quoted(f"openai/{gateway.model}")
    known = {f"openai/{each.id}": {
        "max_input_tokens": each.context, "max_output_tokens": MAX_TOKENS, "max_tokens": MAX_TOKENS,
        "litellm_provider": "openai", "mode": "chat"} for each in gateway.models if each.context}
    return (File("~/.aider.conf.yml", "yaml", f"""\
model: {model}
weak-model: {model}
openai-api-base: {quoted(gateway.address + "/v1")}
openai-api-key: {quoted(gateway.key)}
edit-format: diff
show-model-warnings: false
auto-commits: false
dirty-commits: false
"""), *([File("~/.aider.model.metadata.json", "json", json_text(known))] if known else []))


CLIENT = Client(
    "aider", "aider", files, "aider",
    turn_off=("Commits by aider: each message is a request that costs an agent of its own. "
              "The file turns them off; write /commit for one.",),
    cannot=(),
    tried="aider 0.86.2")
