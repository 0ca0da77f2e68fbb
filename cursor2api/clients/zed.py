"""Zed: a provider in its settings, over chat completions; the key is in the environment."""

from . import CONTEXT, MAX_TOKENS, NAME, Client, File, Gateway, json_text


def files(gateway: Gateway) -> tuple[File, ...]:
    return File("~/.config/zed/settings.json", "json", json_text({
        "agent": {"default_model": {"provider": NAME, "model": gateway.model}},
        "language_models": {"openai_compatible": {NAME: {
            "api_url": f"{gateway.address}/v1",
            "available_models": [
                {"name": model.id, "display_name": model.id, "max_tokens": model.context or CONTEXT,
                 "max_output_tokens": MAX_TOKENS, "capabilities": {
                     "tools": True, "images": True, "parallel_tool_calls": True, "prompt_cache_key": False}}
                for model in gateway.models]}}}})),


CLIENT = Client(
    "zed", "Zed", files, "CURSOR2API_API_KEY=__KEY__ zed",
    turn_off=("Titles of threads: Zed asks for one at the first message, which costs an agent of its own. There "
              "is no switch for it; agent.thread_summary_model can name a model of another provider.",),
    cannot=("Zed does not read the key from the file, but from CURSOR2API_API_KEY or its own settings page.",),
    tried="")
