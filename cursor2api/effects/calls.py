"""What a call is: from JSON text that a Reader has normalised to calls of declared tools.

Models write calls under many keys; nothing is a call but one of a declared tool with arguments that fit.
"""

import json
import re
from dataclasses import dataclass, field

from .jsonstream import normalised
from .schema import Checker

NAMES = ("name", "tool", "tool_name", "function")
ARGUMENTS = ("arguments", "parameters", "args", "input", "params")
_KEYS = {*NAMES, *ARGUMENTS, "tool_calls", "id", "type"}

# How a call begins, in normalised JSON, when nothing but its arguments is still to come.
_BEGUN = re.compile(r'\{(?:"id":(?P<id>"(?:[^"\\]|\\.)*"),)?(?:"type":"function",)?'
                    rf'"(?:{"|".join(NAMES)})":(?P<name>"(?:[^"\\]|\\.)*"),'
                    rf'"(?:{"|".join(ARGUMENTS)})":\{{')
_HOPE = re.compile(rf'\[?(?:\Z|\{{(?:\Z|"(?:{"|".join(_KEYS)})":))')


@dataclass(slots=True)
class Found:
    """The calls in a text as (the model's own id or None, tool, arguments), or what is wrong with it.

    `misfit` is a tool's name if only that is wrong: its arguments do not fit their schema. `more` says
    that further calls were left out.
    """

    calls: list[tuple] = field(default_factory=list)
    complaint: str = ""
    misfit: str | None = None
    more: bool = False


class Tools:
    """The declared tools, objects with `name` and `parameters`."""

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
        return (tool, begun["id"]) if tool else None

    def misfit(self, tool, arguments: str) -> str:
        """What the tool's schema says against its arguments, for the model to read; nothing if they fit."""
        if tool.name not in self._checkers:
            self._checkers[tool.name] = Checker(tool.parameters)
        errors = self._checkers[tool.name].errors(arguments)
        return errors and f"The arguments of {tool.name} do not fit its parameters:\n{errors}"

    def find(self, text: str, most: int | None = None, bare: bool = False) -> Found:
        """The first `most` calls in a normalised text. A `bare` one has no marks around it: it must have
        no key that is not a call's, and the arguments that its tool requires."""
        written = _written(text, bare)
        if written is None:
            return Found(complaint='it has no "name" and "arguments"')
        calls = []
        for own_id, name, arguments in written[:most]:
            tool = self.named(name)
            if not tool:
                names = ", ".join(tool.name for tool in self._tools)
                return Found(complaint=f"there is no tool {name[:80]!r}; the tools are {names}")
            arguments = _arguments(arguments, tool)
            if arguments is None:
                return Found(complaint=f"the arguments of {tool.name} are not one JSON object")
            required = bare and isinstance(tool.parameters, dict) and tool.parameters.get("required")
            keys = [*json.loads(arguments)]
            if isinstance(required, list) and not all(key in keys for key in required):
                return Found(complaint="required arguments are missing")
            if complaint := self.misfit(tool, arguments):
                return Found(complaint=complaint, misfit=tool.name)
            calls.append((own_id, tool, arguments))
        return Found(calls, more=len(calls) < len(written))


def may_begin(head: str) -> bool:
    """Whether a normalised text that begins like this can still be a bare call."""
    return bool(_HOPE.match(head))


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


def _written(text, strict=False):
    """(the model's own id, name, raw arguments) of all calls in a normalised JSON text; None: not calls.

    `strict`: every key must be one of a call.
    """
    if text[0] == "[":
        groups = [_written(item, strict) if item[0] == "{" else None for item in _split(text)]
        return None if None in groups else [call for group in groups for call in group]
    if text[0] != "{":
        return None
    members = _split(text)
    if strict and not members.keys() <= _KEYS:
        return None
    if members.get("tool_calls", "")[:1] == "[":
        return _written(members["tool_calls"], strict)
    if members.get("function", "")[:1] == "{":
        members.update(_split(members.pop("function")))
    names = [members[key] for key in NAMES if members.get(key, "")[:1] == '"']
    if not names:
        return None if members else []
    arguments = [members[key] for key in ARGUMENTS if key in members]
    own_id = members.get("id", "")
    return [(own_id if own_id[:1] == '"' else None, json.loads(names[0]),
             arguments[0] if arguments else "{}")]


def _arguments(text, tool):
    """Raw arguments as the tool's schema wants them; None if they are no JSON object."""
    for _ in range(2):
        if text and text[0] == '"':
            text = normalised(json.loads(text).strip() or "null")
    if text == "null":
        text = "{}"
    return normalised(text, tool.parameters) if text and text[0] == "{" else None
