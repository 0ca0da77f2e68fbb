"""Claude Code: a settings file of its own, over Anthropic's Messages."""

from . import Client, File, Gateway, json_text

MODELS = ("ANTHROPIC_MODEL", "ANTHROPIC_DEFAULT_OPUS_MODEL", "ANTHROPIC_DEFAULT_SONNET_MODEL",
          "ANTHROPIC_DEFAULT_HAIKU_MODEL", "CLAUDE_CODE_SUBAGENT_MODEL")


def files(gateway: Gateway) -> tuple[File, ...]:
    return File("~/.claude/cursor2api.json", "json", json_text({"env": {
        "ANTHROPIC_BASE_URL": gateway.address,
        "ANTHROPIC_AUTH_TOKEN": gateway.key,
        **dict.fromkeys(MODELS, gateway.model),
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CLAUDE_CODE_DISABLE_TERMINAL_TITLE": "1"}})),


CLIENT = Client(
    "claude-code", "Claude Code", files, "claude --settings ~/.claude/cursor2api.json",
    turn_off=("Titles in the terminal: each is a request beside the first message and costs an agent of its "
              "own. The file turns them off.",
              "Thinking makes each reply take longer: MAX_THINKING_TOKENS=0 turns it off."),
    cannot=("A conversation that is longer than the service's MAX_INPUT_LENGTH is refused, and Claude Code then "
            "compacts it. Its own instructions have about 100,000 characters, so set MAX_INPUT_LENGTH to what the "
            "models take: four characters are a token.",
            "Web search does not work, because Anthropic's servers would do it.",
            "PDFs cannot be read."),
    tried="Claude Code 2.1.332")
