"""Continue: its configuration for editors and for the command line, over chat completions."""

from . import MAX_TOKENS, NAME, Client, File, Gateway, Model, quoted


def files(gateway: Gateway) -> tuple[File, ...]:
    return File("~/.continue/config.yaml", "yaml", f"""\
name: {NAME}
version: 1.0.0
schema: v1
models:
""" + "".join(_model(gateway, model) for model in gateway.models)),


def _model(gateway: Gateway, model: Model) -> str:
    return f"""\
  - name: {quoted(model.id)}
    provider: openai
    model: {quoted(model.id)}
    apiBase: {quoted(gateway.address + "/v1")}
    apiKey: {quoted(gateway.key)}
    roles: [chat, edit, apply]
    capabilities: [tool_use, image_input]
    useResponsesApi: false
""" + (f"""\
    defaultCompletionOptions:
      contextLength: {model.context}
      maxTokens: {MAX_TOKENS}
""" if model.context else "")


CLIENT = Client(
    "continue", "Continue", files, "cn --config ~/.continue/config.yaml",
    turn_off=("Session titles, in the settings of its extension: each costs an agent of its own.",
              "cn asks for a title too, at the first message in a terminal, and has no switch for it; cn -p does "
              "not ask."),
    cannot=("Completion while you type is left out, because it would start an agent at each pause.",),
    tried="Continue CLI 1.5.47")
