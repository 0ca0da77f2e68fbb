"""Codex: a provider that speaks the Responses API. https://developers.openai.com/codex/config-advanced"""

from . import Client, File, Service, quoted


def files(service: Service) -> tuple[File, ...]:
    window = f"model_context_window = {service.models[0].context}\n" if service.models[0].context else ""
    return (
        File("~/.codex/config.toml", "toml", (
            f"model = {quoted(service.model)}\nmodel_provider = \"cursor2api\"\n{window}\n"
            f"[model_providers.cursor2api]\nname = \"Cursor2API\"\nbase_url = {quoted(service.base)}\n"
            "env_key = \"CURSOR2API_KEY\"\nwire_api = \"responses\"\n"
            "request_max_retries = 1\nstream_max_retries = 1\n")),
        File("", "sh", f"export CURSOR2API_KEY='{service.key}'\n"))


CLIENT = Client(
    "codex", "Codex CLI", files, "codex",
    ("The two retries are 1, as each retry is another run at Cursor; without them Codex asks up to 30 times.",
     "Keep HEARTBEAT=chunk, its default: comments do not reset Codex's clock."),
    ("Tools that run at OpenAI (web_search, image_generation) are left out and reported.",),
    "Codex 0.171")
