"""Open WebUI: its connection, as variables of its environment, over chat completions."""

from . import Client, File, Gateway, exports

TASKS = ("TITLE", "TAGS", "FOLLOW_UP", "AUTOCOMPLETE", "SEARCH_QUERY", "RETRIEVAL_QUERY")


def files(gateway: Gateway) -> tuple[File, ...]:
    return File("open-webui.sh", "sh", exports({
        "OPENAI_API_BASE_URL": f"{gateway.address}/v1",
        "OPENAI_API_KEY": gateway.key,
        "DEFAULT_MODELS": gateway.model,
        "ENABLE_OLLAMA_API": "false",
        **{f"ENABLE_{task}_GENERATION": "false" for task in TASKS}})),


CLIENT = Client(
    "open-webui", "Open WebUI", files, ". ./open-webui.sh && open-webui serve",
    turn_off=("Titles, tags, follow-up questions, completion and queries for a search: each is a request "
              "beside the chat and costs an agent of its own. The file turns them off.",),
    cannot=("It reads these variables at its first start only; later its own settings page decides.",
            "In a container 127.0.0.1 is the container itself: give the variables with docker run -e, with "
            "host.docker.internal in the address, and set API_KEY and HOST=0.0.0.0 for this service."),
    tried="")
