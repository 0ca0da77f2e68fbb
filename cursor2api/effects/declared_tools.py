"""Which declared tool a call means, and with which arguments.

Models name the parts of a call in many ways. `written_calls` finds the parts in JSON text that a Reader
has normalised; DeclaredTools finds the tool and brings the arguments into the form of its schema. Where
that fails, NoCall tells the model why.
"""

import json
import re
from dataclasses import dataclass

from .jsonstream import normalised
from .schema import Checker

LONGEST = 8 << 20  # characters of a call; a longer one counts as cut
NAMES = ("name", "tool", "tool_name", "function")
ARGUMENTS = ("arguments", "parameters", "args", "input", "params")
_KEYS = {*NAMES, *ARGUMENTS, "tool_calls", "id", "type"}

# What may stand before a call's name in normalised JSON, and the name.
_STRING = r'"(?:[^"\\]|\\.)*"'
_BEGIN = rf'\{{(?:"id":(?P<id>{_STRING}),)?(?:"type":"function",)?'
_NAME = rf'"(?:{"|".join(NAMES)})":(?P<name>{_STRING})'
# How a call begins of which nothing but the arguments' members is still to come.
_BEGUN = re.compile(rf'{_BEGIN}{_NAME},"(?:{"|".join(ARGUMENTS)})":\{{')
# How JSON begins that names a tool first, and JSON that may be a call for all that is known yet.
_NAMED = re.compile(rf'\[?(?:\{{"tool_calls":\[)?{_BEGIN}(?:"function":\{{)?{_NAME}')
_UNNAMED = re.compile(rf'\[?(?:\Z|\{{(?:\Z|"(?:{"|".join(_KEYS)})":))')


@dataclass(frozen=True, slots=True)
class WrittenCall:
    """A call as the model wrote it; `own_id` is the JSON string that it gave as the id, or None, `arguments` the
    normalised JSON of what it gave, or None."""

    own_id: str | None
    name: str
    arguments: str | None


class NoCall(Exception):
    """What is wrong with a call, for the model to read.

    `tool` is the name of its tool if no more is wrong than that the arguments do not fit the schema.
    """

    def __init__(self, complaint: str, tool: str | None = None):
        super().__init__(complaint)
        self.complaint, self.tool = complaint, tool


class DeclaredTools:
    """The declared tools, objects with `name`, `kind` and `parameters`, as chat.Tool has them."""

    def __init__(self, tools):
        self._tools = list(tools)
        self._checkers: dict[str, Checker] = {}

    def named(self, name: str):
        """The tool of that name, or the only one that differs in case, punctuation or prefix; or None."""
        for alike in (lambda tool: tool == name, lambda tool: _plain(tool) == _plain(name),
                      lambda tool: _plain(tool) == _plain(name.rpartition("__")[2])
                      or _plain(tool.rpartition("__")[2]) == _plain(name)):
            found = [tool for tool in self._tools if alike(tool.name)]
            if found:
                return found[0] if len(found) == 1 else None
        return None

    def begun(self, head: str):
        """(tool, the model's own id) of a call of which `head` is all up to its arguments' brace; or None."""
        begun = head[-1:] == "{" and _BEGUN.fullmatch(head)
        tool = begun and self.named(json.loads(begun["name"]))
        return (tool, begun["id"]) if tool and tool.kind != "custom" else None

    def takes_raw(self, calls: list[WrittenCall]):
        """The custom tool whose call these are, if its input does not stand within the JSON; or None."""
        tool = len(calls) == 1 and calls[0].arguments is None and self.named(calls[0].name)
        return tool if tool and tool.kind == "custom" else None

    def may_begin(self, head: str) -> bool:
        """Whether normalised JSON that begins like this may still be a call of a declared tool."""
        named = _NAMED.match(head)
        return bool(self.named(json.loads(named["name"])) if named else _UNNAMED.match(head))

    def meant(self, call: WrittenCall):
        """(tool, arguments) of a call, whether or not the arguments fit the schema. Raises NoCall."""
        tool = self.named(call.name)
        if not tool:
            names = ", ".join(tool.name for tool in self._tools)
            raise NoCall(f"there is no tool {call.name[:80]!r}; the tools are {names}")
        if tool.kind == "custom":
            return tool, _input(call.arguments, tool)
        arguments = _arguments(call.arguments or "{}", tool)
        if arguments is None:
            raise NoCall(f"the arguments of {tool.name} are not one JSON object")
        return tool, arguments

    def errors(self, tool, arguments: str) -> str:
        """What the tool's schema says against its arguments, for the model to read; nothing if they fit."""
        if tool.kind == "custom":
            return ""
        if tool.name not in self._checkers:
            self._checkers[tool.name] = Checker(tool.parameters)
        errors = self._checkers[tool.name].errors(arguments)
        return errors and f"The arguments of {tool.name} do not fit its parameters:\n{errors}"

    def checked(self, call: WrittenCall):
        """(tool, arguments) of a call whose arguments fit the schema. Raises NoCall."""
        tool, arguments = self.meant(call)
        if errors := self.errors(tool, arguments):
            raise NoCall(errors, tool.name)
        return tool, arguments


def written_calls(text: str, strict: bool = False) -> list[WrittenCall]:
    """The calls in normalised JSON text: an object, or an array of objects.

    Raises NoCall if it holds anything that is no call; with `strict` also if a call has other keys.
    """
    if text[0] == "[":
        items = [item if item[0] == "{" else "null" for item in _split(text)]
        return [call for item in items for call in written_calls(item, strict)]
    members = _split(text) if text[0] == "{" else {"": text}
    if strict and not members.keys() <= _KEYS:
        raise NoCall("it has keys that no call has")
    if members.get("tool_calls", "")[:1] == "[":
        return written_calls(members["tool_calls"], strict)
    if members.get("function", "")[:1] == "{":
        members.update(_split(members.pop("function")))
    names = [members[key] for key in NAMES if members.get(key, "")[:1] == '"']
    if members and not names:
        raise NoCall('it has no "name" and "arguments"')
    arguments = [members[key] for key in ARGUMENTS if key in members] or [None]
    own_id = members.get("id", "")
    own_id = own_id if own_id[:1] == '"' else None
    return [WrittenCall(own_id, json.loads(name), arguments[0]) for name in names[:1]]


def _plain(name):
    return re.sub("[-_. ]", "", name).casefold()


def _split(text):
    """The raw texts of the items of a normalised array, or of the members of an object by key."""
    decode, found, at = json.JSONDecoder().raw_decode, [], 1
    while at < len(text) - 1:
        if text[0] == "{":
            key, at = decode(text, at)
            at += 1
        begin, (_, end) = at, decode(text, at)
        found.append((key, text[begin:end]) if text[0] == "{" else text[begin:end])
        at = end + 1
    return dict(found) if text[0] == "{" else found


def _input(text, tool):
    """The raw input that JSON holds: a string, or an object of one string. Raises NoCall."""
    if text and text[0] == "{" and len(members := _split(text)) == 1:
        [text] = members.values()
    said = json.loads(text) if text and text[0] == '"' else ""
    if not said.strip():
        raise NoCall(f"the input of {tool.name} is missing")
    return said


def _arguments(text, tool):
    """Raw arguments as the tool's schema wants them; None if they are no JSON object."""
    for _ in range(2):
        if text and text[0] == '"':
            text = normalised(json.loads(text).strip() or "null")
    if text == "null":
        text = "{}"
    return normalised(text, tool.parameters) if text and text[0] == "{" else None
