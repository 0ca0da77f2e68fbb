"""LibreChat: a custom endpoint. https://www.librechat.ai/docs/configuration/librechat_yaml"""

from .open_webui import from_container
from . import Client, File, Service, quoted


def files(service: Service) -> tuple[File, ...]:
    models = ", ".join(quoted(model.id) for model in service.models)
    return File("librechat.yaml", "yaml", (
        "version: 1.2.8\nendpoints:\n  custom:\n    - name: \"Cursor2API\"\n"
        f"      apiKey: {quoted(service.key)}\n      baseURL: {quoted(from_container(service.address) + '/v1')}\n"
        f"      models:\n        default: [{models}]\n        fetch: true\n"
        "      titleConvo: false\n      summarize: false\n      modelDisplayLabel: \"Cursor2API\"\n")),


CLIENT = Client(
    "librechat", "LibreChat", files, None,
    ("titleConvo and summarize are off: each is a chat of its own and costs an agent.",
     "The key 0000 of make run is not good from a container: start the service with HOST=0.0.0.0 and an API_KEY."),
    ("Made pictures, speech, embeddings and files for search are not there.",),
    "not tried")
