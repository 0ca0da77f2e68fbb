"""Claude Code: variables in its settings. https://docs.claude.com/en/docs/claude-code/llm-gateway"""

from . import Client, File, Service, as_json


def files(service: Service) -> tuple[File, ...]:
    models = dict.fromkeys(("ANTHROPIC_MODEL", "ANTHROPIC_DEFAULT_OPUS_MODEL", "ANTHROPIC_DEFAULT_SONNET_MODEL",
                            "ANTHROPIC_DEFAULT_HAIKU_MODEL"), service.model)
    return File("~/.claude/settings.json", "json", as_json({"env": {
        "ANTHROPIC_BASE_URL": service.address, "ANTHROPIC_AUTH_TOKEN": service.key, **models,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"}})),


CLIENT = Client(
    "claude-code", "Claude Code", files, "claude",
    ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC keeps it from asking a model for titles and the like: each costs "
     "an agent.",
     "It asks for thinking with each main request, whose tokens count as output: MAX_THINKING_TOKENS=0 turns that "
     "off.",
     "Set MAX_INPUT_LENGTH of this service to what the models take, four characters a token: its tools and "
     "instructions alone have about 100,000 characters."),
    ("Tools that run at Anthropic (web search, code execution) do not run here, and a PDF cannot be read.",
     "Its list of models (/model) shows only ids that begin with claude, with "
     "CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY=1."),
    "Claude Code 2.1.332")
