"""llm: models beside its own, and their key, over chat completions."""

from . import Client, File, Gateway, json_text, quoted

FOLDER = "~/.config/io.datasette.llm"


def files(gateway: Gateway) -> tuple[File, ...]:
    return (File(f"{FOLDER}/extra-openai-models.yaml", "yaml", "".join(f"""\
- model_id: {quoted("cursor2api/" + model.id)}
  model_name: {quoted(model.id)}
  api_base: {quoted(gateway.address + "/v1")}
  api_key_name: cursor2api
  supports_tools: true
  supports_schema: true
  vision: true
""" for model in gateway.models)), File(f"{FOLDER}/keys.json", "json", json_text({"cursor2api": gateway.key})))


CLIENT = Client(
    "llm", "llm", files, "llm -m cursor2api/__MODEL__ 'Hello'",
    turn_off=(),
    cannot=("On macOS the folder is ~/Library/Application Support/io.datasette.llm; `dirname $(llm logs path)` "
            "prints it.",),
    tried="llm 0.36")
