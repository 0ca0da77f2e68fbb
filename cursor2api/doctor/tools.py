"""Twenty tool calls of rising difficulty, which say how well a model's calls travel as text.

Each task names the calls to make, with their arguments as JSON, so that a right call is one that is equal.
"""

import json
from collections.abc import Callable, Sequence


class Failed(Exception):
    """A check has failed: what was found, and what to do about it."""

    def __init__(self, detail: str, advice: str = ""):
        super().__init__(detail)
        self.detail, self.advice = detail, advice


TEXT, NUMBER, FLAG = {"type": "string"}, {"type": "number"}, {"type": "boolean"}


def _tool(name: str, description: str, **properties: dict) -> dict:
    return {"type": "function", "function": {"name": name, "description": description, "parameters": {
        "type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}}}


def _list(items: dict) -> dict:
    return {"type": "array", "items": items}


def _object(**properties: dict) -> dict:
    return {"type": "object", "properties": properties, "required": list(properties)}


TOOLS = [
    _tool("get_time", "The time at a place", place=TEXT),
    _tool("get_timetable", "The trains of a place on a day", place=TEXT, day=TEXT),
    _tool("read_file", "A file's text", path=TEXT),
    _tool("read_files", "The texts of several files", paths=_list(TEXT)),
    _tool("write_file", "Writes a file", path=TEXT, content=TEXT),
    _tool("edit_file", "Replaces text in a file", path=TEXT, edits=_list(_object(old=TEXT, new=TEXT))),
    _tool("run_command", "Runs a shell command", command=TEXT, background=FLAG),
    _tool("create_order", "Orders goods", customer=_object(name=TEXT, address=_object(street=TEXT, city=TEXT)),
          lines=_list(_object(article=TEXT, count=NUMBER, price=NUMBER)), express=FLAG),
]

_SCRIPT = 'import sys\n\n\ndef main():\n    print("a\\tb", \'c\', f"{len(sys.argv)}")\n\n\nmain()\n'
_PAGE = '<p class="x">1 &lt; 2 &amp; "3"</p>\n<script>if (a < b && c > d) { f(`${e}`); }</script>\n'
_ADA = {"name": "Ada \"the first\" Lovelace", "address": {"street": "12 St James's Sq.", "city": "London"}}
_LINES = [{"article": f"No. {number}", "count": number, "price": number + 0.25} for number in range(1, 6)]

Calls = Sequence[tuple[str, dict]]
TASKS: list[tuple[str, Calls]] = [
    ("one string", [("get_time", {"place": "Oslo"})]),
    ("two strings", [("get_timetable", {"place": "Oslo", "day": "Monday"})]),
    ("a name that resembles another", [("read_file", {"path": "notes.txt"})]),
    ("the other of the two names", [("read_files", {"paths": ["a.txt", "b.txt"]})]),
    ("an empty string and a flag", [("run_command", {"command": "", "background": False})]),
    ("letters of other scripts", [("get_time", {"place": "Zürich, 東京, Αθήνα 😀"})]),
    ("quotes", [("run_command", {"command": "echo \"it's\" '\"'", "background": True})]),
    ("backslashes", [("read_file", {"path": "C:\\new\\table\\\"x\".txt"})]),
    ("newlines", [("write_file", {"path": "poem.txt", "content": "one\ntwo\n\n  three\n"})]),
    ("JSON within a string", [("write_file", {"path": "x.json", "content": '{"a": [1, {"b": "c\\n"}]}'})]),
    ("markup", [("write_file", {"path": "index.html", "content": _PAGE})]),
    ("a program", [("write_file", {"path": "main.py", "content": _SCRIPT})]),
    ("a list of objects", [("edit_file", {"path": "a.py", "edits": [
        {"old": "x = 1\n", "new": "x = 2\n"}, {"old": "\"\"\"", "new": "'''"}]})]),
    ("nested objects", [("create_order", {"customer": _ADA, "lines": _LINES[:1], "express": True})]),
    ("nested lists", [("create_order", {"customer": _ADA, "lines": _LINES, "express": False})]),
    ("two calls at once", [("get_time", {"place": "Oslo"}), ("get_time", {"place": "Rome"})]),
    ("two tools at once", [("read_file", {"path": "a"}), ("read_files", {"paths": ["b", "c"]})]),
    ("three calls at once", [
        ("write_file", {"path": f"{n}.txt", "content": f"line {n}\n\"{n}\""}) for n in range(3)]),
    ("a call like ours, within a string", [("write_file", {"path": "call.txt", "content": (
        '<tool_call>{"name": "get_time", "arguments": {"place": "Rome"}}</tool_call>')})]),
    ("a long string", [("write_file", {"path": "long.txt", "content": "".join(
        f"{n}: \"{n * n}\" \\ {n:x}\n" for n in range(200))})]),
]


def ask_for(calls: Calls) -> str:
    """What a user says who wants these calls."""
    return "Call " + ", and ".join(
        f"{name} with exactly these arguments: {json.dumps(arguments, ensure_ascii=False)}"
        for name, arguments in calls)


def try_tools(ask: Callable[[dict], dict], count: int, model: str, repairs: Callable[[], int]
              ) -> tuple[dict[str, int], list[str]]:
    """How many of `count` tasks were right, repaired and failed, and the names of those that were not right.

    `ask` answers a chat, and raises where it fails; `repairs` says how often a model was asked once more so far.
    """
    found, names = {"right": 0, "repaired": 0, "failed": 0}, []
    for number in range(count):
        name, calls = TASKS[number % len(TASKS)]
        before = repairs()
        outcome = _outcome(ask, calls, model) and ("right" if repairs() == before else "repaired")
        found[outcome or "failed"] += 1
        if outcome != "right":
            names.append(f"{name} ({outcome or 'failed'})")
    return found, names


def _outcome(ask: Callable[[dict], dict], calls: Calls, model: str) -> bool:
    """Whether exactly these calls came."""
    try:
        reply = ask({"model": model, "tools": TOOLS, "messages": [{"role": "user", "content": ask_for(calls)}]})
        made = reply["choices"][0]["message"].get("tool_calls") or ()
        functions = [call["function"] for call in made]
        return [(each["name"], json.loads(each["arguments"])) for each in functions] == list(calls)
    except Failed:
        return False
