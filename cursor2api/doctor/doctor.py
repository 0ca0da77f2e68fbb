"""The doctor: whether everything is right with the settings, the key and each upstream, checked on the
machine where the service will run, by the service itself on a port of this machine.

    python -m cursor2api.doctor [--yes] [--json] [--record DIR [--content]] [--tools COUNT [--models ID,ID]]

The status is 0 when nothing has failed, 1 when something has.
"""

import argparse
import http.client
import json
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from .. import start
from ..config import DEVELOPMENT_KEY, Config, ConfigError
from ..errors import ApiError
from .recorder import Recorder
from .tools import Failed, try_tools

PASS, WARN, FAIL = "PASS", "WARN", "FAIL"
CHATS = 5
SLOW_S = 30
FORMS = {"cloud": "cloud", "simulator": "cloud", "uistream": "ui"}  # what is recorded: how its files' names begin
KEYS = "https://cursor.com/dashboard, Integrations"
WEATHER = {"type": "function", "function": {
    "name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}},
                                          "required": ["city"], "additionalProperties": False}}}
COSTS = {"cloud": "Each starts an agent at Cursor, about a minute, and costs some 13 to 38 thousand tokens.",
         "sdk": "Each costs some thousand tokens at Cursor.",
         "uistream": "Each costs what the service at UISTREAM_URL asks for it.",
         "simulator": "The simulator answers; they cost nothing."}
ADVICE = {
    "upstream_unreachable": "check the network, CURSOR_BASE_URL and HTTPS_PROXY",
    "upstream_tls": "check the machine's certificates, or a proxy that intercepts TLS",
    "connect_timeout": "check the network, CURSOR_BASE_URL and HTTPS_PROXY",
    "repository_required": "allow agents without a repository in Cursor's settings for the account or team",
    "plan_required": "the account's plan has no cloud agents: see https://cursor.com/dashboard",
    "usage_limit_exceeded": "the account's spending limit is reached: see https://cursor.com/dashboard",
    "rate_limit_exceeded": "wait a minute and try again",
    "create_timeout": "raise CREATE_TIMEOUT, or look at https://status.cursor.com",
    "idle_timeout": "raise TIMEOUT, or look at https://status.cursor.com",
}


@dataclass(frozen=True)
class Finding:
    """One line; `advice` says what to do, "" when nothing is."""

    status: str
    upstream: str = ""
    check: str = ""
    detail: str = ""
    advice: str = ""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="doctor", description="Checks settings, key and upstreams.")
    parser.add_argument("--yes", action="store_true", help="make the chats that cost something, unasked")
    parser.add_argument("--json", action="store_true", help="a JSON object a line")
    parser.add_argument("--record", type=Path, metavar="DIR", help="write what the upstreams said to files")
    parser.add_argument("--content", action="store_true", help="with --record: leave texts as they are")
    parser.add_argument("--wait", type=float, default=90, metavar="SECONDS",
                        help="longest wait for what should end by itself (90)")
    parser.add_argument("--tools", type=int, default=0, metavar="COUNT",
                        help="have models make so many tool calls of rising difficulty, 20 for all kinds")
    parser.add_argument("--models", default="", metavar="ID,ID",
                        help="with --tools: which models, in place of the first alone")
    options = parser.parse_args(arguments)
    worst = 0
    for finding in examine(options.yes or _asked, options.wait, options.record, options.content, options.tools,
                           tuple(filter(None, options.models.split(",")))):
        worst = max(worst, finding.status == FAIL)
        if options.json:
            print(json.dumps(asdict(finding)), flush=True)
        else:
            where = f"{finding.upstream}: " if finding.upstream else ""
            print(f"{finding.status}  {where}{finding.check}" + (f": {finding.detail}" if finding.detail else "")
                  + (f"\n      {finding.advice}" if finding.advice else ""), flush=True)
    return worst


def _asked(cost: str) -> bool:
    if not sys.stdin.isatty():
        return False
    return input(f"{cost} Go on? [y/N] ").strip().lower() in ("y", "yes")


def examine(agreed: bool | Callable[[str], bool], wait: float, record: Path | None = None,
            content: bool = False, tools: int = 0, models: Sequence[str] = ()) -> Iterator[Finding]:
    """All findings, as they come. `agreed` is asked with what the chats cost, before each upstream's;
    `wait` is the longest time, in seconds, for what should end by itself; `tools` is how many tool calls each of
    the `models` makes."""
    try:
        config = Config.read(start.environment())
        start.create_app(config)
        for name in config.upstreams:
            start.make_upstream(replace(config, upstream=name))
    except ConfigError as error:
        yield Finding(FAIL, "", "settings", str(error), "correct it in the environment or .env")
        return
    yield Finding(PASS, "", "settings", f"{config.upstream_in_use or 'no upstream'}, port {config.port}")
    if config.debug_content:
        yield Finding(WARN, "", "privacy", "DEBUG_CONTENT logs prompts and replies", "unset it")
    if not (config.api_key or config.api_key_file or config.key_passthrough):
        yield Finding(WARN, "", "keys", "API_KEY is not set: make run serves its own user, gunicorn nobody",
                      "set API_KEY before you deploy")
    if DEVELOPMENT_KEY in dict(config.api_key).values():
        yield Finding(WARN, "", "keys", "API_KEY has the key 0000, which everybody knows",
                      "set API_KEY to a key of your own before you deploy")
    if not config.upstreams:
        yield Finding(FAIL, "", "upstream", "none is configured",
                      f"set CURSOR_API_KEY to a key from {KEYS}, or UISTREAM_URL")
    for name in config.upstreams:
        yield from _upstream(config, name, agreed, wait, record, content, tools, models)


def _upstream(config: Config, name: str, agreed, wait: float, record: Path | None, content: bool, tools: int,
              models: Sequence[str]) -> Iterator[Finding]:
    key = f"doctor-{secrets.token_hex(12)}"
    config = replace(config, upstream=name, api_key=(("doctor", key),), api_key_file="", key_limits=(),
                     kilo_tool_strict=False, heartbeat_s=2.0, sweep_s=0.0, keep_agents=1, warm_agents=0)
    recorder = Recorder(start.make_upstream(config), config.cursor_api_key)
    application = start.create_app(config, recorder)
    before: set[str] = set()

    def check(title: str, work: Callable[[], Finding | str], advice: str = "") -> Finding:
        """What `work` finds: a text is what was right, a Finding takes its place from here."""
        try:
            found = work()
            return replace(found, upstream=name, check=title) if isinstance(found, Finding) else Finding(
                PASS, name, title, found)
        except Failed as failed:
            return Finding(FAIL, name, title, failed.detail, failed.advice or advice)
        except (ApiError, OSError, http.client.HTTPException) as error:
            code = getattr(error, "code", None)
            return Finding(FAIL, name, title, str(error), ADVICE.get(code, advice))

    with closing(application.service) as service:
        with served(application) as port:
            listed = check("key and models", lambda: _models(service, before), f"check CURSOR_API_KEY: {KEYS}")
            yield listed
            if listed.status == FAIL:
                return
            ask = Caller(port, key, service.models.all()[0].id)
            models = models or (ask.model,)
            cost = f"{CHATS + tools * len(models)} small chats through {name} follow. {COSTS[name]}"
            if agreed is not True and not agreed(cost):
                yield Finding(WARN, name, "chats", f"not made: {cost}", "run again with --yes")
                return
            yield Finding(PASS, name, "chats", cost)
            if record and name not in FORMS:
                yield Finding(WARN, name, "recording", "what it says is not recorded",
                              "record what another upstream says")
            form = FORMS.get(name)
            chat = check("a chat, by an agent without a repository" if form == "cloud" else "a chat",
                         lambda: _chat(ask))
            yield chat
            _save(recorder, record, f"{form}_chat", content)
            if chat.status == FAIL:
                return
            for title, work, file in (
                    ("a second turn", _second_turn, None), ("a streamed chat", _stream, "stream"),
                    ("a tool call", _tool, "tool"), ("a cancel", partial(_cancel, wait=wait), None),
                    *((f"{tools} tool calls by {model}", partial(_tools, model=model, count=tools,
                                                                 recorder=recorder), None)
                      for model in models if tools)):
                yield check(title, lambda: work(ask))
                if file:
                    _save(recorder, record, f"{form}_{file}", content)
                recorder.taken()
        service.agents.close(replaced=False)
        yield check("nothing is left behind", lambda: _left(recorder, before, wait))


def _models(service, before: set[str]) -> str:
    """Asks with the key, even if MODELS fixes the list; `before` is to be told what is upstream now."""
    service.upstream.models()
    before |= service.upstream.left()
    models = service.models.all()
    if not models:
        raise Failed("the upstream lists no model", "set MODELS")
    return f"{len(models)}, such as {models[0].id}"


HELLO = {"role": "user", "content": "Say hello in one word."}


def _chat(ask: "Caller") -> str:
    reply = ask({"messages": [HELLO]})
    ask.said = reply["choices"][0]["message"]["content"]
    if not reply["choices"][0]["message"]["content"]:
        raise Failed("the reply has no text", "try again; if it stays so, record it with --record")
    return f"{reply['usage']['total_tokens']} tokens ({reply['usage']['source']}), {ask.seconds:.1f} s"


def _second_turn(ask: "Caller") -> str:
    """The chat goes on: its agent is kept where agents can be."""
    reply = ask({"messages": [HELLO, {"role": "assistant", "content": ask.said},
                              {"role": "user", "content": "Now in French."}]})
    usage = reply["usage"]
    prompt, cached = usage["prompt_tokens"], usage["prompt_tokens_details"]["cached_tokens"]
    if prompt < cached:
        raise Failed(f"{prompt} tokens of a prompt, of which {cached} cached", "please report this")
    return (f"{ask.agent} agent, {cached} of {prompt} tokens cached ({100 * cached // max(1, prompt)} %), "
            f"{ask.seconds:.1f} s")


def _stream(ask: "Caller") -> Finding | str:
    first = None
    finish = None
    for chunk in ask.stream({"messages": [{"role": "user", "content": "Count from 1 to 20 in words."}]}):
        choice = chunk["choices"][0]
        if choice["delta"].get("content") and first is None:
            first = ask.seconds
        finish = choice["finish_reason"] or finish
    if finish is None or first is None:
        raise Failed("the stream ended without a text or its finish", "try again; a router may cut streams")
    detail = f"first token after {first:.1f} s, whole after {ask.seconds:.1f} s"
    return detail if first < SLOW_S else Finding(
        WARN, detail=detail, advice="a fresh cloud agent takes about a minute: docs/upstreams.md")


def _tool(ask: "Caller") -> str:
    reply = ask({"tools": [WEATHER], "tool_choice": "required", "messages": [
        {"role": "user", "content": "What is the weather in Paris? Use get_weather."}]})
    call = reply["choices"][0]["message"]["tool_calls"][0]["function"]
    return f"{call['name']} {call['arguments']}"


def _tools(ask: "Caller", model: str, count: int, recorder: Recorder) -> Finding | str:
    found, names = try_tools(ask, count, model, lambda: recorder.follow_ups)
    detail = ", ".join(f"{number} {outcome}" for outcome, number in found.items())
    return Finding(WARN, detail=f"{detail}: {', '.join(names)}", advice=(
        "use another model for tools")) if found["failed"] else detail


def _cancel(ask: "Caller", wait: float) -> str:
    chunks = ask.stream({"messages": [{"role": "user", "content": "SLOW: count from 1 to 2000 in words."}]})
    if not any(chunk["choices"][0]["delta"].get("content") for chunk in chunks):
        raise Failed("the stream ended before it could be left")
    chunks.close()
    deadline = time.monotonic() + wait
    while ask.open_streams():
        if time.monotonic() > deadline:
            raise Failed("the reply went on after its caller had left", "please report this")
        time.sleep(0.1)
    return "left in mid-stream, and ended"


def _left(recorder: Recorder, before: set[str], wait: float) -> Finding | str:
    deadline = time.monotonic() + wait
    while left := recorder.left() - before:
        if time.monotonic() > deadline:
            raise Failed(f"{len(left)} agents are left: {', '.join(sorted(left)[:5])}",
                         "delete them at https://cursor.com/agents; a start with SWEEP_S does it later")
        time.sleep(0.5)
    return Finding(WARN, detail=f"but {len(before)} agents of an earlier time",
                   advice="a start deletes those that are older than SWEEP_S") if before else ""


class Caller:
    """Asks the service as any client would."""

    def __init__(self, port: int, key: str, model: str):
        self.port, self.key, self.model = port, key, model
        self._begun = 0.0
        self.agent = ""  # whose the last reply was
        self.said = ""   # the text of the first chat

    @property
    def seconds(self) -> float:
        """Since the last chat was asked for."""
        return time.monotonic() - self._begun

    def __call__(self, body: dict) -> dict:
        with self._asked(body) as response:
            reply = json.loads(response.read())
        return _checked(reply)

    def stream(self, body: dict) -> Iterator[dict]:
        with self._asked({**body, "stream": True}) as response:
            for line in response:
                if line.startswith(b"data: {"):
                    yield _checked(json.loads(line[6:]))
                elif response.status != 200:
                    _checked(json.loads(line))

    def open_streams(self) -> int:
        with self._asked(None) as response:
            line = next(line for line in response if line.startswith(b"cursor2api_slots_used"))
        return round(float(line.split()[-1]))

    @contextmanager
    def _asked(self, body: dict | None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        try:
            if body is None:
                connection.request("GET", "/metrics", headers=headers)
            else:
                self._begun = time.monotonic()
                connection.request("POST", "/v1/chat/completions", json.dumps({"model": self.model, **body}),
                                   headers)
            response = connection.getresponse()
            self.agent = response.headers.get("x-cursor2api-agent", "")
            yield response
        finally:
            connection.close()


def _checked(reply: dict) -> dict:
    if error := reply.get("error"):
        raise Failed(f"{error['code'] or error['type']}: {error['message']}",
                     ADVICE.get(error["code"], "docs/errors.md says what to do about this code"))
    return reply


class _Server(ThreadingMixIn, WSGIServer):
    """The standard library's: unlike Werkzeug's it closes a reply whose caller has reset the connection."""

    daemon_threads = True


class _Handler(WSGIRequestHandler):
    def log_message(self, *args) -> None:
        pass


@contextmanager
def served(application) -> Iterator[int]:
    """Serves it on a port of this machine."""
    server = make_server("127.0.0.1", 0, application, _Server, _Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _save(recorder: Recorder, directory: Path | None, name: str, content: bool) -> None:
    said, events = recorder.taken()
    if directory and said:
        raw, rows = recorder.reply(said, events, content)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"{name}.txt").write_bytes(raw)
        (directory / f"{name}.json").write_text(json.dumps(rows, ensure_ascii=False) + "\n", "utf-8")
