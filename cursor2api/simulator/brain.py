"""What the simulated model says: a pure function of the prompt, read as a model would read it.

It knows nothing of who wrote the prompt: blocks <role_x>..</role_x> are a conversation, what stands
outside them are rules, tools (JSON with a name and parameters), an example of a call, and a schema.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

ROLES = r"system|developer|user|assistant|tool"
BLOCK = re.compile(rf"(?s)<(({ROLES})(_\w+)?)((?: [^<>\n]*)?)>(.*?)</\1>")
REMINDER = re.compile(r"(?s)<system-reminder>.*?</system-reminder>")  # a client's own, among its user's words
CAPITAL = r"[^\W\d_a-z][\w'’-]*"
PLACE = re.compile(rf"\b(?:in|for|at|of|to|from|near)\s+({CAPITAL}(?:(?:,? and |, | ){CAPITAL})*)")
QUOTED = re.compile(r"\"([^\"\n]+)\"|“([^”\n]+)”|(?<!\w)'([^'\n]+)'(?!\w)|`([^`\n]+)`")
PATCH = re.compile(r"(?ms)^\*\*\* Begin Patch$.*?^\*\*\* End Patch$")
RAW = re.compile(r"[ \t]*\n[^{}<>]*(</[^<>]*>)")
NUMBER = re.compile(r"(?<![\w.-])-?\d+(?:\.\d+)?(?!\w)")
FORMATS = {"date": "2026-01-31", "time": "12:00:00Z", "date-time": "2026-01-31T12:00:00Z",
           "email": "ann@example.com", "uri": "https://example.com/", "hostname": "example.com",
           "uuid": "123e4567-e89b-42d3-a456-426614174000", "ipv4": "192.0.2.1",
           "ipv6": "2001:db8::1", "duration": "PT1H"}
SCHEMA_KEYS = {"type", "properties", "$ref", "allOf", "anyOf", "oneOf", "enum"}
DEEP = 5  # from here on only what a schema insists on, so that recursive ones come to an end


@dataclass
class Reading:
    """A prompt as it was understood; `example` is (before, a call as JSON, after), `raw` the same of a call whose
    input is text behind the JSON. Schemas in `tools` are None for those that take such input."""

    blocks: list[tuple[str, str, str]] = field(default_factory=list)  # role, attributes, content
    tools: dict[str, dict | None] = field(default_factory=dict)  # schemas of arguments by name
    example: tuple[str, dict, str] | None = None
    raw: tuple[str, dict, str] | None = None
    schema: dict | None = None
    rules: str = ""
    bare: bool = False  # no blocks: the prompt is all message

    def last(self, role: str) -> int:
        return max((n for n, block in enumerate(self.blocks) if block[0] == role), default=-1)


def read(prompt: str) -> Reading:
    reading = Reading()
    for block in BLOCK.finditer(prompt):
        text = block[5].strip()
        said = REMINDER.sub("", text).strip() if block[2] == "user" else text
        if said or not text:  # what holds reminders alone is no message of the user's
            reading.blocks.append((block[2], block[4], said))
    if not reading.blocks:
        return Reading([("user", "", prompt.strip())], bare=True)
    rest = BLOCK.sub("", prompt)
    decoder, at, rules = json.JSONDecoder(), 0, []
    for start in re.finditer(r"[{\[]", rest):
        if start.start() < at:
            continue
        try:
            value, end = decoder.raw_decode(rest, start.start())
        except ValueError:
            continue
        line = rest.rfind("\n", 0, start.start()) + 1
        before = re.search(r"(?:<[^<>]*>|```\w*)?\s*$", rest[at:start.start()])[0]
        after = re.match(r"\s*(?:</[^<>]*>|```)?", rest[end:])[0]
        rules.append(rest[at:start.start()])
        at = end
        for tool in value if isinstance(value, list) else [value]:
            tool = tool.get("function", tool) if isinstance(tool, dict) else {}
            name = tool.get("name")
            if isinstance(name, str) and isinstance(tool.get("parameters"), dict):
                reading.tools[name] = tool["parameters"]
            elif isinstance(name, str) and isinstance(tool.get("format"), dict):
                reading.tools[name] = None
            elif before.strip() and (behind := RAW.match(rest, end)) and tool.keys() <= {"name"}:
                reading.raw = reading.raw or (before, value, behind[1])
            elif isinstance(name, str) and "description" in tool:
                reading.tools[name] = {}
            elif before.strip() and after.strip() and not tool.keys() & SCHEMA_KEYS:
                reading.example = reading.example or (before, value, after)
            elif tool and not rest[line:start.start()].strip():
                reading.schema = tool
    reading.rules = "".join([*rules, rest[at:]]).strip()
    return reading


def asked(prompt: str) -> str:
    """The last user message."""
    reading = read(prompt)
    return reading.blocks[reading.last("user")][2] if reading.last("user") >= 0 else ""


def answer(prompt: str, images: int = 0, thinking: bool = False,
           earlier: Sequence[str] = ()) -> tuple[str, str]:
    """(thinking, text) for a prompt; `earlier` are the prompts that the agent had before.

    After prompts with blocks a bare one is a complaint: the last message is answered once more. What
    tools and schema were shown before is known, unless the rules forbid calls.
    """
    readings = [read(text) for text in (*earlier, prompt)]
    turns = [reading for reading in readings if not reading.bare] or readings
    reading = next((turn for turn in reversed(turns) if turn.rules), turns[-1])
    reading.blocks = [block for turn in turns for block in turn.blocks]
    reading.schema = next((turn.schema for turn in reversed(turns) if turn.schema), None)
    if not re.search(r"(?i)\bdo not call\b", reading.rules):
        reading.tools = next((turn.tools for turn in reversed(turns) if turn.tools), {})
    message = reading.blocks[reading.last("user")][2] if reading.last("user") >= 0 else ""
    speak = in_json if wants_json(reading, message) else words
    text = calls(reading, message) or speak(reading, message, images)
    thought = f"The user says: {shorten(message)}"
    tag = re.search(r"(?i)\b(?:think|reason)[^<>{\n]*<([\w-]+)>", reading.rules)
    if tag:
        return "", f"<{tag[1]}>{thought}</{tag[1]}>\n{text}"
    return (thought if thinking else ""), text


def marks(prompts: Sequence[str]) -> tuple[str, str]:
    """What stands around a call in the latest example of one; nothing if there is none."""
    readings = map(read, reversed(prompts))
    example = next(filter(None, (reading.example or reading.raw for reading in readings)), ("", {}, ""))
    return example[0].strip(), example[2].strip()


def shorten(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 300 else text[:300] + "..."


# Tool calls


def calls(reading: Reading, message: str) -> str:
    """The calls that are called for and were not made since the user last spoke, or nothing."""
    rules, tools = reading.rules, reading.tools
    if given := dictated(message, tools):
        return "\n".join(call(reading, name, arguments) for name, arguments in given)
    since = reading.blocks[reading.last("user") + 1:]
    made = {match for role, attributes, content in since for match in re.findall(
        r'name=?"?:?\s*"([^"]+)"', attributes if role == "tool" else content * (role == "assistant"))}
    wanted = named(message, tools)
    if not wanted and re.search(r"(?i)\bmust (?:call|use)\b", rules):
        wanted = named(rules, tools)[:1] or list(tools)[:1]
    wanted = [name for name in wanted if name not in made]
    places = [place for match in PLACE.findall(message) for place in re.split(r",? and |, ", match)]
    made_of = [(name, message) for name in wanted]
    if len(wanted) == 1 and len(places) > 1 and len(texts_of(tools[wanted[0]] or {})) == 1:
        made_of = [(wanted[0], f"in {place}") for place in places]
    if re.search(r"(?i)\b(?:at most|only|exactly|more than) (?:one|1|a single)\b", rules):
        made_of = made_of[:1]
    return "\n".join(raw_call(reading, name, said) if tools[name] is None else
                     call(reading, name, by_schema(tools[name], Facts(said))) for name, said in made_of)


def dictated(message: str, tools: dict) -> list[tuple[str, dict]]:
    """The calls whose arguments a message gives as JSON: `NAME with exactly these arguments: {...}`."""
    decoder, found, at = json.JSONDecoder(), [], 0
    while match := re.compile(r"([\w-]+) with exactly these arguments: (?={)").search(message, at):
        arguments, at = decoder.raw_decode(message, match.end())
        if match[1] in tools:
            found.append((match[1], arguments))
    return found


def texts_of(schema: dict) -> list[str]:
    properties = schema.get("properties", {})
    return [name for name in schema.get("required", properties)
            if properties.get(name, {}).get("type") == "string" and "enum" not in properties[name]]


def named(text: str, tools: dict) -> list[str]:
    """The tools that a text names, in its order."""
    found = {name: re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text) for name in tools}
    return sorted((name for name in tools if found[name]), key=lambda name: found[name].start())


def call(reading: Reading, name: str, arguments: object) -> str:
    before, shape, after = reading.example or ("", {"name": "", "arguments": {}}, "")
    said = {}
    for key, value in shape.items():
        if isinstance(value, dict) or "arg" in key.lower() or "param" in key.lower():
            said[key] = json.dumps(arguments) if isinstance(value, str) else arguments
        else:
            said[key] = name if "id" != key.lower() else f"call_{name}"
    return before.lstrip("\n") + json.dumps(said, ensure_ascii=False) + after.rstrip("\n")


def raw_call(reading: Reading, name: str, message: str) -> str:
    """A call whose input is a patch that the message holds, or what it quotes, or all of it."""
    before, shape, after = reading.raw or ("", {"name": ""}, "")
    patch = PATCH.search(message)
    said = patch[0] if patch else (Facts(message).quoted or [message])[0]
    return f"{before.lstrip()}{json.dumps({**shape, 'name': name}, ensure_ascii=False)}\n{said}\n{after}"


# JSON


def wants_json(reading: Reading, message: str) -> bool:
    ask = r"(?i)\b(?:answer|reply|respond|output|return|write)\b[^.\n]{0,40}\bjson\b"
    return reading.schema is not None or bool(re.search(ask, f"{reading.rules}\n{message}"))


def in_json(reading: Reading, message: str, images: int) -> str:
    value = ({"answer": words(reading, message, images)} if reading.schema is None
             else by_schema(reading.schema, Facts(message)))
    return json.dumps(value, ensure_ascii=False)


class Facts:
    """What a message gives to fill in, each but once: quoted strings, places, numbers."""

    def __init__(self, message: str):
        self.message = message
        self.quoted = ["".join(match) for match in QUOTED.findall(message)]
        plain = QUOTED.sub(" ", message)
        self.places = [place for match in PLACE.findall(plain)
                       for place in re.split(r",? and |, ", match)]
        self.numbers = [json.loads(re.sub(r"^(-?)0+(?=\d)", r"\1", number))
                        for number in NUMBER.findall(plain)]

    def after(self, name: str, value: str) -> str | None:
        """The value that the message names: `city is Paris`, `city: Paris`, `city=Paris`."""
        words = re.sub(r"(?<=[a-z])(?=[A-Z])|[_-]", "[ _-]?", re.sub(r"\W", ".", name))
        match = name and re.search(rf"(?i)\b{words}\b\"?\s*(?:is|as|to|=|:|of)?\s*({value})",
                                   self.message)
        return match[1] if match else None

    def string(self, name: str) -> str | None:
        given = self.after(name, r"(?<=[=:])\s*[^\s,;\"'`]+|(?<=is )\w+")
        if given:
            return given.strip().rstrip(".")
        return (self.quoted or self.places or [None]).pop(0)

    def number(self, name: str, whole: bool) -> float | None:
        given = self.after(name, NUMBER.pattern)
        fitting = [number for number in self.numbers if not whole or number == int(number)]
        number = json.loads(given) if given else fitting[0] if fitting else None
        if number in self.numbers:
            self.numbers.remove(number)
        return number


def by_schema(schema: object, facts: Facts) -> object:
    """As `build`; an empty object if the schema is none, as what callers send may not be one."""
    try:
        return build(schema, facts)
    except (TypeError, ValueError, LookupError, AttributeError):
        return {}


def build(schema: object, facts: Facts, root: dict | None = None, name: str = "",
          depth: int = 0) -> object:
    """A value that is valid against a schema, of what the message says where it fits."""
    root = schema if root is None else root
    schema = resolve(schema, root) if isinstance(schema, dict) else {}
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        said = [value for value in schema["enum"] if re.search(
            rf"(?i)(?<!\w){re.escape(str(value))}(?!\w)", facts.message)]
        return (said or schema["enum"])[0]
    for key in ("anyOf", "oneOf"):
        if options := [resolve(option, root) for option in schema.get(key, ())]:
            some = [option for option in options if option.get("type") != "null"]
            if depth > DEEP:
                some = [option for option in options if "properties" not in option]
            return build((some or options)[0], facts, root, name, depth + 1)
    kind = schema.get("type") or ("object" if "properties" in schema else
                                  "array" if "items" in schema else "string")
    if isinstance(kind, list):
        nothing = depth > DEEP and "null" in kind
        kind = "null" if nothing else next((k for k in kind if k != "null"), "null")
    if kind == "object":
        required = schema.get("required", ())
        parts = {key: {} for key in required} | schema.get("properties", {})
        return {key: build(part, facts, root, key, depth + 1) for key, part in parts.items()
                if key in required or depth <= DEEP and mentioned(key, resolve(part, root), facts)}
    if kind == "array":
        return items(schema, facts, root, name, depth)
    if kind in ("integer", "number"):
        return number(schema, facts.number(name, kind == "integer"), kind == "integer")
    if kind == "boolean":
        said = facts.after(name, "true|false|on|off|yes|no")
        return said.lower() in ("true", "on", "yes") if said else True
    if kind == "null":
        return None
    text = FORMATS.get(schema.get("format")) or facts.string(name) or name or "text"
    return text.ljust(schema.get("minLength", 0), "x")[:schema.get("maxLength")]


def resolve(schema: dict, root: dict) -> dict:
    """The schema with its $ref followed and its allOf merged."""
    seen = 0
    while isinstance(schema, dict) and "$ref" in schema and seen < 20:
        target, seen = root, seen + 1
        for step in schema["$ref"].lstrip("#/").split("/") if schema["$ref"] != "#" else ():
            target = target[step.replace("~1", "/").replace("~0", "~")]
        schema = target | {key: value for key, value in schema.items() if key != "$ref"}
    if not isinstance(schema, dict):
        return {}
    for part in [resolve(part, root) for part in schema.get("allOf", ())]:
        both = {"properties", "required"} & part.keys() & schema.keys()
        schema = part | schema | {
            key: schema[key] | part[key] if key == "properties" else [*schema[key], *part[key]]
            for key in both}
    return schema


def mentioned(name: str, schema: dict, facts: Facts) -> bool:
    if "enum" in schema:
        return any(re.search(rf"(?i)(?<!\w){re.escape(str(value))}(?!\w)", facts.message)
                   for value in schema["enum"])
    return facts.after(name, r"(?<=[=:])\s*\S+|(?<= is )\w+|(?<=\s)-?\d+") is not None


def items(schema: dict, facts: Facts, root: dict, name: str, depth: int) -> list:
    parts, least = schema.get("prefixItems", []), schema.get("minItems", 0)
    item = schema.get("items", {})
    kind = resolve(item, root).get("type") if isinstance(item, dict) else None
    given = {"string": facts.quoted or facts.places, "integer": facts.numbers,
             "number": facts.numbers}.get(kind, ())
    count = max(least, len(parts), len(given), 0 if depth > DEEP else 1)
    count = min(count, schema.get("maxItems", count))
    made = [build(parts[n] if n < len(parts) else item, facts, root, name.rstrip("s"), depth + 1)
            for n in range(count)]
    if schema.get("uniqueItems"):
        options = resolve(item, root).get("enum") if isinstance(item, dict) else None
        if options:
            return options[:max(least, 1)]
        made = [value if value not in made[:n] else f"{value}{n}" if isinstance(value, str)
                else value + n for n, value in enumerate(made)]
    return made


def number(schema: dict, value: float | None, whole: bool) -> float:
    step = schema.get("multipleOf") or (1 if whole else 0)
    low, high = schema.get("minimum"), schema.get("maximum")
    for key, sign in (("exclusiveMinimum", 1), ("exclusiveMaximum", -1)):
        if isinstance(bound := schema.get(key), (int, float)) and not isinstance(bound, bool):
            bound += sign * (step or (0.001 if None in (low, high) else 0.5))
            low, high = (bound, high) if sign > 0 else (low, bound)
    if value is None:
        value = low if low is not None else min(1, 1 if high is None else high)
    value = value if low is None else max(low, value)
    value = value if high is None else min(high, value)
    if step:
        value = -(-value // step) * step
        value = value - step if high is not None and value > high else value
    return int(value) if whole or value == int(value) else value


# Words


def words(reading: Reading, message: str, images: int) -> str:
    results = []
    for role, attributes, content in reading.blocks[reading.last("user") + 1:]:
        if role == "tool":
            name = re.search(r'name="?([^" ]+)', attributes)
            results.append(f"{name[1] if name else 'The tool'} says: {content}")
    if results:
        return "\n".join(results)
    if match := re.search(r"(?i)\bcount (?:from (-?\d{1,6}) )?(?:up )?to (-?\d{1,6})\b", message):
        first = int(match[1] or 1)
        return " ".join(map(str, range(first, min(int(match[2]), first + 9999) + 1)))
    seen = f"I see {images} image{'s' * (images != 1)}. " if images else ""
    if match := re.search(r"(?is)^\W*(?:please )?(?:say|repeat|(?:reply|answer|respond) with)\b"
                          r"(?: exactly| only| just| the words?| this)*:?\s+(.+)$", message):
        return seen + match[1].strip().rstrip(".").strip("\"'“”`")
    if re.search(r"(?i)\bwhat(?:'s| is) my name\b", message):
        for _, _, content in reversed(reading.blocks):
            if match := re.search(r"(?i)\bmy name is (\w+)", content):
                return f"{seen}Your name is {match[1]}."
    if not message:
        return f"{seen}Hello! What can I do for you?"
    verb = "asked" if message.endswith("?") else "wrote"
    return f"{seen}You {verb} “{shorten(message)}”, and this is the simulated model's answer."
