"""The page's HTML in one language: the template static/index.html with what the reference tells, as a reader
without JavaScript has it too.

Pure, made once at the start. All texts go in escaped. In the template {{text}} is a text in the reader's language
and [[name]] a part that is made here; what stands between backquotes is code. `<b data-own=...>` marks what is
this service's own; scripts put the reader's address, key and model there.
"""

import json
import re
from html import escape
from typing import NamedTuple

WRITTEN = {"http://127.0.0.1:8002": "address", "0000": "key", "claude-sonnet-4-5-20250929": "model"}
LANGUAGES = {"sh": "curl", "py": "Python", "mjs": "JavaScript"}
TASKS = {
    "models": "List models", "chat": "Chat", "stream": "Streamed chat", "tool": "Tool call",
    "named": "A named tool", "responses": "Responses", "kilo": "Kilo Code", "messages": "Anthropic's Messages"}
SAMPLES = {"POST /v1/chat/completions": "chat.sh", "POST /v1/responses": "responses.sh",
           "POST /v1/messages": "messages.sh", "GET /v1/models": "models.sh",
           "POST /v1/responses/input_tokens": "responses.sh", "POST /v1/messages/count_tokens": "messages.sh"}
HINTS = {
    "kilo": "In Kilo Code choose the provider OpenAI Compatible, and the base URL, key and model above. This "
            "service runs with `KILO_TOOL_STRICT={strict}`.",
    "messages": "For Claude Code and Anthropic's SDKs: `ANTHROPIC_BASE_URL={root}`, without /v1, and the key as "
                "`ANTHROPIC_AUTH_TOKEN`."}


class Words(NamedTuple):
    """The words of one language; what is not among them is English."""

    language: str
    words: dict[str, str]

    def t(self, text: str, **values: str) -> str:
        """A text, translated and escaped, with {name} replaced by values[name]."""
        return escape(re.sub(r"\{(\w+)\}", lambda name: values.get(name[1], name[0]), self.words.get(text, text)))

    def rich(self, text: str, **values: str) -> str:
        """The same with code in it."""
        return re.sub(r"`([^`]*)`", r"<code>\1</code>", self.t(text, **values))


def page(template: str, about: dict, words: Words, port: int) -> bytes:
    """The page. `about` is what reference() gives; without scripts the address that is shown has this `port`."""
    own = {"address": f"http://127.0.0.1:{port}", "model": "claude-sonnet-4-5-20250929",
           "key": "0000" if about["keys"] == "development" else "YOUR_KEY"}
    parts = {"language": words.language, "address": own["address"], "version": escape(about["version"]),
             "upstream": escape(about["upstream"] or words.t("none")),
             **{"pressed-" + name: str(words.language.startswith(name)).lower() for name in ("en", "zh")},
             "examples": _examples(about, words, own), "reference": _reference(about, words, own)}
    text = re.sub(r"\{\{(.+?)\}\}", lambda found: words.rich(found[1]), re.sub(r"(?m)^ +", "", template))
    return re.sub(r"\[\[([\w-]+)\]\]", lambda found: parts[found[1]], text).encode()


def _own(text: str, own: dict[str, str]) -> str:
    """An example, with what is this service's own in its place and marked."""
    return re.sub("|".join(map(re.escape, WRITTEN)), lambda found: '<b data-own={}>{}</b>'.format(
        name := WRITTEN[found[0]], own[name]), escape(text.strip(), quote=False))


def _block(code: str) -> str:
    return f"<pre><code>{code}</code></pre>"


def _examples(about: dict, words: Words, own: dict[str, str]) -> str:
    made = []
    for task, title in TASKS.items():
        hint = HINTS.get(task, "") and '<p class=hint>' + words.rich(
            HINTS[task], strict=str(about["kilo_tool_strict"]).lower(), root=own["address"])
        for ending, language in LANGUAGES.items():
            name = f"{task}.{ending}"
            mark = f' id=example-{task}' * (ending == "sh") + " data-chosen" * (name == "chat.sh")
            made.append(f'<div class=example data-task={task} data-language={ending}{mark}>'
                        f"<h3>{words.t(title)} · {language}</h3>"
                        f'{_block(_own(about["examples"].get(name, ""), own))}{hint}</div>')
    return "".join(made)


def _table(columns: list[str], rows: list[list[str]]) -> str:
    """A table, whose rows begin with a name as it is written in code. HTML lets the ends of cells and rows be left
    out."""
    head, body = "".join(f"<th>{name}" for name in columns), "".join(
        f"<tr><th>{first}" + "".join(f"<td>{cell}" for cell in rest) for first, *rest in rows)
    return f"<table><thead><tr>{head}<tbody>{body}</table>"


def _code(text: object) -> str:
    return f"<code>{escape(str(text), quote=False)}</code>" if text != "" else ""


def _reference(about: dict, words: Words, own: dict[str, str]) -> str:
    t, rich = words.t, words.rich

    def part(id: str, title: str, count: int, *content: str) -> str:
        return (f'<details id="{id}"><summary><h3>{title}</h3><span class=count>{count}</span></summary>'
                + "".join(content) + "</details>")

    def hint(text: str) -> str:
        return f'<p class=hint>{rich(text)}</p>'

    def table(columns: list[str], rows: list[list[str]]) -> str:
        return _table([t(name) for name in columns], rows)

    def shown(text: str) -> str:
        return _block(escape(text.strip(), quote=False))

    def answer(name: str) -> str:
        if name in about["answers"]:
            return f'<details><summary>{t("Answer")}</summary>{shown(about["answers"][name])}</details>'
        example = {"POST " + one["path"]: one["name"] for one in dialects}.get(name, "responses")
        return f'<a href="#reply-of-{example}">{t("Answer")}</a>'

    def effect(name: str) -> str:
        return f'<i class={name}>{t(name)}</i>' if name in ("honoured", "refused") else t(name)

    routes, errors, settings = about["routes"], about["errors"], about["settings"]
    dialects = about["dialects"]
    return "".join([
        part("routes", t("Routes"), len(routes),
             hint("What begins with `/v1` is also there without it. Keys come as `Authorization: Bearer KEY`, "
                  "`x-api-key: KEY` or `api-key: KEY`."),
             table(["Route", "Key", "Answer, and the request as curl"], [
                 [name := f'{each["method"]} {each["path"]}', t("yes") if each["key"] else t("no"),
                  rich(each["what"]) + _block(_curl(name, each, about, own)) + answer(name)] for each in routes])),
        part("parameters", t("Request parameters"), sum(len(one["parameters"]) for one in dialects),
             hint("honoured: has its effect; ignored: checked, has none, and is reported; accepted: nothing about "
                  "the reply would differ; refused: 400."),
             *(f'<h4 id="parameters-of-{one["name"]}">{_code("POST " + one["path"])}</h4>' + table(
                 ["Parameter", "Required", "Type", "Range", "Effect", "What it does"], [
                     [escape(each["name"]), t("yes") if each["required"] else "", escape(each["type"]),
                      rich(each["range"]), effect(each["effect"]), rich(each["what"])]
                     for each in one["parameters"]]) for one in dialects)),
        part("replies", t("Replies"), len(about["replies"]) + len(dialects) - 1,
             *(f'<h4 id="reply-of-{one["name"]}">{_code("POST " + one["path"])}</h4>' + (
                 "".join(f'<h5>{rich(each["name"])}</h5>' + shown(each["text"]) for each in about["replies"])
                 if one is dialects[0] else shown(one["reply"])) for one in dialects)),
        part("reply-headers", t("Headers of a reply"), len(about["headers"]),
             table(["Header", "What it says"],
                   [[escape(each["name"]), rich(each["what"])] for each in about["headers"]])),
        part("errors", t("Errors"), len(errors),
             hint("A refusal is one JSON object, `error`, with `message`, `type`, `param` and `code`."),
             table(["Status", "When, and its codes", "Body"], [
                 [str(each["status"]), f'<p>{rich(each["when"])}</p>' + " ".join(
                     _code(one or json.dumps(one)) for one in each["codes"]),
                  _code(json.dumps(each["body"]))] for each in errors])),
        part("settings", t("Settings"), len(settings),
             hint("Environment variables, or lines of `.env` beside app.py."),
             table(["Name", "Default", "What it does"], [
                 [escape(each["name"]), escape(each["default"], quote=False), rich(each["help"])]
                 for each in settings]))])


def _curl(name: str, route: dict, about: dict, own: dict[str, str]) -> str:
    """The request to an endpoint: an example where there is one, else a line that asks for it."""
    if name in SAMPLES:
        example = about["examples"].get(SAMPLES[name], "")
        return _own(re.sub(r"(?<=8002)/\S+", route["path"], example, count=1), own)
    method = {"GET": "", "POST": "-X POST ", "DELETE": "-X DELETE "}[route["method"]]
    key = ' -H "Authorization: Bearer 0000"' if route["key"] else ""
    return _own(f'curl {method}http://127.0.0.1:8002{route["path"]}{key}', own)
