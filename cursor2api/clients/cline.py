"""Cline: its command line is told by a command, its extension in its settings. https://docs.cline.bot"""

from . import Client, File, Service


def files(service: Service) -> tuple[File, ...]:
    return File("", "sh", (
        f"cline auth --provider openai-compatible --apikey '{service.key}' --baseurl '{service.base}' "
        f"--modelid '{service.model}'\n")),


CLIENT = Client(
    "cline", "Cline", files, "cline",
    ("In the extension take the provider OpenAI Compatible, with the same base URL, key and model.",),
    ("Computer use is not there.",),
    "Cline CLI 3.0.65")
