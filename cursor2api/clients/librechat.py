"""LibreChat: an endpoint of one's own in the file beside its docker-compose.yml, over chat completions."""

from . import NAME, Client, File, Gateway, quoted


def files(gateway: Gateway) -> tuple[File, ...]:
    return File("librechat.yaml", "yaml", f"""\
version: 1.3.17
cache: true
endpoints:
  custom:
    - name: {NAME}
      apiKey: {quoted(gateway.key)}
      baseURL: {quoted(gateway.address + "/v1")}
      models:
        default: [{", ".join(quoted(model.id) for model in gateway.models)}]
        fetch: true
      titleConvo: false
      modelDisplayLabel: {NAME}
""" + "".join(["      tokenConfig:\n"] * any(model.context for model in gateway.models) + [
        f"        {quoted(model.id)}: {{prompt: 0, completion: 0, context: {model.context}}}\n"
        for model in gateway.models if model.context])),


CLIENT = Client(
    "librechat", "LibreChat", files, None,
    turn_off=("Titles of conversations: each costs an agent of its own. The file turns them off.",),
    cannot=("In its container 127.0.0.1 is the container itself: write host.docker.internal, and set API_KEY "
            "and HOST=0.0.0.0 for this service.",),
    tried="")
