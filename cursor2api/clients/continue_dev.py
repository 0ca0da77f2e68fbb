"""Continue: its command line and its extensions read one file. https://docs.continue.dev/reference"""

from . import Client, File, Model, Service, quoted


def files(service: Service) -> tuple[File, ...]:
    return File("~/.continue/config.yaml", "yaml", "".join([
        "name: Cursor2API\nversion: 0.0.1\nschema: v1\nmodels:\n",
        *(described(service, model) for model in service.models)])),


def described(service: Service, model: Model) -> str:
    window = f"    defaultCompletionOptions:\n      contextLength: {model.context}\n" if model.context else ""
    return (f"  - name: {quoted(model.id)}\n    provider: openai\n    model: {quoted(model.id)}\n"
            f"    apiBase: {quoted(service.base)}\n    apiKey: {quoted(service.key)}\n"
            "    useResponsesApi: false\n    roles: [chat, edit, apply]\n"
            "    capabilities: [tool_use, image_input]\n"
            f"{window}")


CLIENT = Client(
    "continue", "Continue", files, "cn",
    ("The roles autocomplete and embed are left out: a completion while you type would cost an agent each time.",
     "Turn off session titles, in its settings: each costs an agent."),
    ("Completion while you type and the index of a code base have no model here.",),
    "Continue CLI 1.5.47")
