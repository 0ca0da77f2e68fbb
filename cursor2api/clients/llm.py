"""llm, on the command line: a file of further models. https://llm.datasette.io/en/stable/other-models.html"""

from . import Client, File, Service, quoted


def files(service: Service) -> tuple[File, ...]:
    return (
        File("~/.config/io.datasette.llm/extra-openai-models.yaml", "yaml", "".join(
            f"- model_id: {quoted(model.id)}\n  model_name: {quoted(model.id)}\n"
            f"  api_base: {quoted(service.base)}\n  api_key_name: cursor2api\n"
            "  supports_tools: true\n  supports_schema: true\n  vision: true\n"
            for model in service.models)),
        File("", "sh", f"llm keys set cursor2api --value '{service.key}'\nllm -m '{service.model}' 'Hello'\n"))


CLIENT = Client(
    "llm", "llm", files, "llm",
    (),
    ("Embeddings are not there.",),
    "llm 0.36")
