"""GitHub's Copilot CLI: variables of a provider of one's own; `copilot help providers` explains them."""

from . import Client, File, Service, exports


def files(service: Service) -> tuple[File, ...]:
    context = service.models[0].context
    window = {"COPILOT_PROVIDER_MAX_PROMPT_TOKENS": str(context)} if context else {}
    return File("", "sh", exports({
        "COPILOT_PROVIDER_BASE_URL": service.base, "COPILOT_PROVIDER_API_KEY": service.key,
        "COPILOT_MODEL": service.model, **window})),


CLIENT = Client(
    "copilot", "Copilot CLI", files, "copilot",
    ("COPILOT_OFFLINE=true keeps it from GitHub's own servers.",),
    ("Completion while you type stays with GitHub.",),
    "Copilot CLI 1.0.102")
