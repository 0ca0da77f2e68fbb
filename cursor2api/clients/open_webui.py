"""Open WebUI: variables of its container. https://docs.openwebui.com/getting-started/env-configuration"""

from urllib.parse import urlsplit

from . import Client, File, Service


def from_container(address: str) -> str:
    """The address as a container sees it."""
    parts = urlsplit(address)
    if parts.hostname not in ("127.0.0.1", "localhost", "::1"):
        return address
    return parts._replace(netloc=f"host.docker.internal:{parts.port or 80}").geturl()


def files(service: Service) -> tuple[File, ...]:
    off = "".join(f"  -e {name}=false \\\n" for name in (
        "ENABLE_TITLE_GENERATION", "ENABLE_TAGS_GENERATION", "ENABLE_FOLLOW_UP_GENERATION",
        "ENABLE_AUTOCOMPLETE_GENERATION", "ENABLE_SEARCH_QUERY_GENERATION", "ENABLE_RETRIEVAL_QUERY_GENERATION"))
    return File("", "sh", (
        "docker run -d --name open-webui -p 3000:8080 -v open-webui:/app/backend/data \\\n"
        "  --add-host=host.docker.internal:host-gateway \\\n"
        f"  -e OPENAI_API_BASE_URL='{from_container(service.address)}/v1' -e OPENAI_API_KEY='{service.key}' \\\n"
        f"{off}  ghcr.io/open-webui/open-webui:main\n")),


CLIENT = Client(
    "open-webui", "Open WebUI", files, None,
    ("Titles, tags, follow-up questions and search queries are off: each is a chat of its own and costs an agent. "
     "After its first start Open WebUI keeps these settings in its database: turn them off there, under Admin, "
     "Interface.",
     "The key 0000 of make run is not good from a container: start the service with HOST=0.0.0.0 and an API_KEY."),
    ("Made pictures, speech and embeddings are not there.",),
    "not tried")
