"""What a caller asks for, as frozen values: a Chat says what all dialects mean, in none of their words."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Image:
    """A picture: an http(s) URL, or data:image/...;base64,...; `path` is where the request has it."""

    url: str
    path: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class WholeCall:
    """A tool call of which all is known; `id` may be empty, `arguments` is as it came. `kind` is function or
    custom: then `arguments` is the raw input."""

    id: str
    name: str
    arguments: str
    kind: str = "function"


@dataclass(frozen=True, slots=True)
class Message:
    """`role` is system, user, assistant or tool; user and tool messages may hold images."""

    role: str
    content: tuple[str | Image, ...]
    name: str | None = None
    tool_calls: tuple[WholeCall, ...] = ()
    tool_call_id: str | None = None

    @property
    def text(self) -> str:
        return "\n".join(part for part in self.content if isinstance(part, str))


@dataclass(frozen=True, slots=True)
class Tool:
    """What the model may call: `kind` is function, whose `parameters` are a JSON Schema, untouched; or custom,
    which takes raw text, and whose `parameters` describe the form of that text, untouched.

    `namespace` is the group in which its caller declared it, "" for none.
    """

    name: str
    description: str
    parameters: dict
    kind: str = "function"
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """`mode` is none, auto or required; with `names` only these may be shown and called."""

    mode: str
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Format:
    """What the reply must be: text, json_object or json_schema (of which `schema` may be None)."""

    type: str
    name: str = ""
    schema: dict | None = None


@dataclass(frozen=True, slots=True)
class Chat:
    """A request that we can serve: `n` replies to the `messages`, each on the terms of the other fields.

    `think`: the model thinks where it has a variant for that. `hide_thinking`: none of that is shown, whatever the
    service shows else. `whole_history`: a conversation that is too long is refused; else its oldest turns are left
    out. `seed`: an equal chat is to have the same reply; it holds what else must be equal, "" for none.
    """

    model: str
    messages: tuple[Message, ...]
    stream: bool = False
    n: int = 1
    stop: tuple[str, ...] = ()
    max_tokens: int | None = None
    format: Format = Format("text")
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = ToolChoice("none")
    parallel_tool_calls: bool = True
    reasoning_effort: str | None = None
    think: bool = False
    hide_thinking: bool = False
    whole_history: bool = False
    seed: str = ""
