"""A stand-in for Cursor: Cloud Agents API v1 and the AI SDK UI message stream (POST /ui/chat).

Strict as Cursor's own clients demand it to be; plays every fault that a script names. A run is data
and a clock: its frames are all known when it begins, each with the moment at which it is due.

    python -m cursor2api.simulator --port 8003 [--script FILE] [--boot SECONDS] [--until-eof]
    with serve(script, **defaults) as simulator: simulator.url, simulator.state

Every key is good except `bad-key`. Without a script brain.py answers; SLOW in a prompt makes a run
of 12 s. GET /simulator/state shows agents, runs, requests and open streams; POST /simulator/script
sets a script; POST /simulator/reset forgets everything. A script is

    {"replies": [reply, ...], "refuse": {OPERATION: refusal, ...}}

and each new run takes the first reply whose `when` fits and whose `times` is not used up. Keys of a
reply (`defaults` of serve are such keys, for every run):

    when, times          substring of the prompt; how many runs (1; 0: any number)
    thinking, text       what is said; without text, frames or raw the brain speaks. {open} and {close}
                         in the text become what stands around a call in the prompt's own example
    frames               [[event, data], ...] in place of the frames made from thinking and text
    raw                  the stream's whole body: text with {run} and {agent}, or {"base64": ..}
    chunk, usage         characters a delta (else a word); the turn's usage
    status               the end: FINISHED, ERROR, EXPIRED or CANCELLED
    boot, follow_up_s    seconds that POST agents and POST runs block
    cancel_s             seconds that a cancelled run still takes to end
    first, delay         seconds before the first frame; seconds after each
    heartbeat            seconds between heartbeats (15)
    twins, ids, crlf     false: no interaction_update; false: no ids; true: CRLF line ends
    cut, burst           bytes a write; all in one write
    stall_after          content frames, then silence (but for heartbeats, with "heartbeats": true)
    close_after          content frames, then a polite end of the body
    reset_after          bytes, then a connection reset
    error_after          [content frames, {code, message}]: error (for stream_unavailable also done)
    unknown_after        content frames, then one of an unknown type
    twice_after          content frames, of which the last comes twice
    stream_times         connections of a run that get these faults and raw; later ones are clean
    OPERATION            a refusal of that call

An OPERATION is the name of a row of ROUTES; `create` is also POST /ui/chat. Keys of a refusal:

    status, code, message, headers      the answer; with "html": true its body is a page
    reset                               before, within or after the headers of the answer
    hang                                seconds of silence first; alone, the call then works
    then_works                          the call is carried out although the caller sees the fault
    times                               1; 0: always
"""

import argparse
import base64
import contextlib
import json
import os
import re
import select
import signal
import socket
import struct
import sys
import threading
import time
import uuid
from collections import Counter, deque

from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, Rule
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

from . import brain
from .demands import AGENT_ID, CREATE_FIELDS, MODELS, RUN_FIELDS, Refusal, answer, check_body, check_model
from .runs import FAULTS, Agent, Frame, Reset, Run, agent_frames, bend, carve, stamp, ui_frames

AGENT = "/v1/agents/<agent_id>"
RUN = AGENT + "/runs/<run_id>"
ROUTES = {
    "exchange": ("POST", "/auth/exchange_user_api_key"),
    "me": ("GET", "/v1/me"),
    "models": ("GET", "/v1/models"),
    "create": ("POST", "/v1/agents"),
    "list_agents": ("GET", "/v1/agents"),
    "get_agent": ("GET", AGENT),
    "delete": ("DELETE", AGENT),
    "archive": ("POST", AGENT + "/archive"),
    "unarchive": ("POST", AGENT + "/unarchive"),
    "usage": ("GET", AGENT + "/usage"),
    "follow_up": ("POST", AGENT + "/runs"),
    "list_runs": ("GET", AGENT + "/runs"),
    "get_run": ("GET", RUN),
    "stream": ("GET", RUN + "/stream"),
    "cancel": ("POST", RUN + "/cancel"),
    "chat": ("POST", "/ui/chat"),
    "inspect": ("GET", "/simulator/state"),
    "set_script": ("POST", "/simulator/script"),
    "reset": ("POST", "/simulator/reset"),
}
URLS = Map([Rule(path, endpoint=name, methods=[method]) for name, (method, path) in ROUTES.items()])
QUERY = {"list_agents": {"limit", "cursor", "prUrl", "includeArchived"},
         "list_runs": {"limit", "cursor"}, "usage": {"runId"}}

HEADERS = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
BEFORE_RESET = {"before": b"", "within": HEADERS[:30], "after": HEADERS}
SLOW_S = 12
KEPT = 1000  # agents and requests remembered, so that a demo can run for months


def page(request: Request, items: list[dict]) -> Response:
    limit, cursor = request.args.get("limit", "20"), request.args.get("cursor", "0")
    if not (limit.isdecimal() and 1 <= int(limit) <= 100 and cursor.isdecimal()):
        raise Refusal(400, "validation_error", "limit: 1 to 100; cursor: as in nextCursor")
    end = int(cursor) + int(limit)
    return answer({"items": items[int(cursor):end]}
                  | ({"nextCursor": str(end)} if end < len(items) else {}))


def key_of(request: Request) -> str:
    given = request.authorization
    return (given.username if given.type == "basic" else given.token) or "" if given else ""


def gone(connection: socket.socket) -> bool:
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


class Simulator:
    """The WSGI application; needs Werkzeug's server for the client's socket."""

    url = ""

    def __init__(self, script: dict | None = None, **defaults):
        self.defaults = defaults
        self.changed = threading.Condition(threading.RLock())
        self.stopped = False
        self.open_streams = 0
        self.connections: set[socket.socket] = set()
        self.forget(script)

    def forget(self, script: dict | None = None) -> None:
        self.agents: dict[str, Agent] = {}
        self.requests: deque[dict] = deque(maxlen=KEPT)
        self.script(script)

    def script(self, script: dict | None) -> None:
        self.replies = (script or {}).get("replies", [])
        self.refusals = (script or {}).get("refuse", {})
        self.used: Counter[int] = Counter()

    def stop(self) -> None:
        with self.changed:
            self.stopped = True
            self.changed.notify_all()
            connections = list(self.connections)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    @property
    def state(self) -> dict:
        with self.changed:
            agents = [
                {"id": agent.id, "name": agent.name, "status": agent.status,
                 "deleted": agent.deleted, "key": agent.key[-4:], "params": agent.model["params"],
                 "runs": [
                     {"id": run.id, "status": run.status, "prompt": run.prompt, "model": run.model,
                      "images": run.images, "cancelled_by": run.cancelled_by,
                      "connections": run.connections} for run in agent.runs]}
                for agent in self.agents.values()]
            return {"agents": agents, "requests": [dict(entry) for entry in list(self.requests)],
                    "open_streams": self.open_streams}

    # The way of a request

    def __call__(self, environ, start_response):
        request = Request(environ)
        headers = {name.lower(): value for name, value in request.headers.items()}
        if "authorization" in headers:
            headers["authorization"] = f"****{key_of(request)[-4:]}"
        entry = {"method": request.method, "path": request.full_path.rstrip("?"),
                 "headers": headers, "status": None}
        if not request.path.startswith("/simulator/"):
            self.requests.append(entry)
        try:
            response = self.dispatch(request)
        except Refusal as refusal:
            response = refusal.response()
        entry["status"] = response.status_code
        response.headers["x-request-id"] = str(uuid.uuid4())
        return response(environ, start_response)

    def dispatch(self, request: Request) -> Response:
        try:
            endpoint, ids = URLS.bind_to_environ(request.environ).match()
        except HTTPException as error:
            raise Refusal(error.code, "not_found", error.description) from None
        call = getattr(self, endpoint)
        if request.path.startswith("/simulator/"):
            with self.changed:
                return call(request)
        key = key_of(request)
        if key == "bad-key":
            raise Refusal(401, "api_key_not_found", "Invalid User API Key")
        if not key and endpoint != "chat":
            raise Refusal(401, "unauthorized", "An API key is required")
        if unknown := request.args.keys() - QUERY.get(endpoint, set()):
            raise Refusal(400, "validation_error", f"Unrecognized key(s): {sorted(unknown)}")
        if endpoint in ("create", "chat"):
            return call(request)
        known, reply = [], {}
        if ids:
            agent = self.agents.get(ids["agent_id"])
            if not agent or agent.deleted or agent.key != key:
                raise Refusal(404, "agent_not_found", "Agent not found")
            known, reply = [agent], agent.runs[-1].reply
        if "run_id" in ids:
            run = next((run for run in agent.runs if run.id == ids["run_id"]), None)
            if not run:
                raise Refusal(404, "run_not_found", "Run not found")
            known, reply = [agent, run], run.reply
        if endpoint == "follow_up":
            return call(request, agent)
        with self.changed:
            refusal = self.refusal(endpoint, reply) or self.refusal(endpoint, self.refusals)
        return self.act(request, refusal, lambda: call(request, *known))

    def refusal(self, operation: str, source: dict) -> dict | None:
        refusal = source.get(operation)
        if refusal is None or 0 < refusal.get("times", 1) <= self.used[id(refusal)]:
            return None
        self.used[id(refusal)] += 1
        return refusal

    def choose(self, prompt: str, operation: str) -> tuple[dict, dict | None]:
        """The reply for a prompt and the refusal of its call; a refused call uses no reply up."""
        with self.changed:
            refusal = self.refusal(operation, self.refusals)
            for reply in self.replies:
                if reply.get("when", "") in prompt and (
                        not reply.get("times", 1) or self.used[id(reply)] < reply.get("times", 1)):
                    refusal = refusal or self.refusal(operation, reply)
                    self.used[id(reply)] += refusal is None or self.works(refusal)
                    return self.defaults | reply, refusal
            return self.defaults, refusal

    @staticmethod
    def works(refusal: dict) -> bool:
        return "then_works" in refusal or not refusal.keys() & {"status", "reset"}

    def act(self, request: Request, refusal: dict | None, work) -> Response:
        if refusal is None:
            return work()
        response = work() if self.works(refusal) else None
        if "hang" in refusal and not self.pause(request, refusal["hang"]):
            raise Reset
        if "reset" in refusal:
            request.environ["werkzeug.socket"].sendall(BEFORE_RESET[refusal["reset"]])
            raise Reset
        if "status" in refusal:
            raise Refusal(refusal["status"], refusal.get("code"), refusal.get("message"),
                          refusal.get("headers"), refusal.get("html", False))
        return response

    def pause(self, request: Request, seconds: float, run: Run | None = None) -> bool:
        """Wait, less when `run` is cancelled; False if nobody listens any more."""
        end, before = time.monotonic() + seconds, run and run.cancelled_at
        connection = request.environ["werkzeug.socket"]
        while not gone(connection):
            with self.changed:
                left = end - time.monotonic()
                if self.stopped:
                    return False
                if left <= 0 or (run and run.cancelled_at != before):
                    return True
                self.changed.wait(min(left, 0.05))
        return False

    # Operations

    def exchange(self, request):
        raise Refusal(404, "not_found", "Not found")

    def me(self, request):
        return answer({"apiKeyName": "Simulator", "createdAt": stamp(0), "userId": 42,
                       "userEmail": "ann@example.com", "userFirstName": "Ann"})

    def models(self, request):
        return answer({"items": MODELS})

    def create(self, request):
        body = check_body(request, CREATE_FIELDS)
        model = check_model(body.get("model", {"id": MODELS[0]["id"]}), "invalid_model")
        agent_id = body.get("agentId") or f"bc-{uuid.uuid4()}"
        if not AGENT_ID.fullmatch(agent_id):
            raise Refusal(400, "validation_error", "agentId: expected bc-<uuid>")
        if "agentId" in body and body.get("envVars"):
            raise Refusal(400, "validation_error", "envVars: not together with agentId")
        if body.get("env", {}).get("type", "cloud") not in ("cloud", "pool", "machine"):
            raise Refusal(400, "validation_error", "env.type: cloud, pool or machine")
        if not all(isinstance(repo, dict) and repo.get("url") for repo in body.get("repos", ())):
            raise Refusal(400, "validation_error", "repos: each needs a url")

        def conflict():
            if agent_id in self.agents:
                raise Refusal(409, "agent_id_conflict", f"Agent {agent_id} exists")

        def work():
            agent = Agent(agent_id, key_of(request), body.get("name") or "New agent", model)
            with self.changed:
                conflict()
                run = self.begin(agent, body, reply, reply.get("boot", 0))
                self.keep(agent)
            self.pause(request, run.boot)
            return answer({"agent": agent.view(), "run": run.view(listed=True) | {"status": "CREATING"}}, 201)

        conflict()
        reply, refusal = self.choose(body["prompt"]["text"], "create")
        return self.act(request, refusal, work)

    def keep(self, agent: Agent) -> None:
        with self.changed:
            self.agents[agent.id] = agent
            if len(self.agents) > KEPT:  # what is left over stays in sight
                gone = (each.id for each in self.agents.values() if each.deleted)
                del self.agents[next(gone, next(iter(self.agents)))]

    def follow_up(self, request, agent):
        body = check_body(request, RUN_FIELDS)
        model = check_model(body["model"], "validation_error") if "model" in body else agent.model

        def ready():
            if agent.archived:
                raise Refusal(409, "agent_archived", f"Agent {agent.id} is archived")
            if agent.runs[-1].active:
                raise Refusal(409, "agent_busy", f"Run {agent.runs[-1].id} is active")

        def work():
            with self.changed:
                ready()
                agent.model = model  # it sticks, although no answer tells it
                run = self.begin(agent, body, reply, 0)
            self.pause(request, reply.get("follow_up_s", 0))
            return answer({"run": run.view(listed=True) | {"status": "CREATING"}}, 201)

        ready()
        reply, refusal = self.choose(body["prompt"]["text"], "follow_up")
        return self.act(request, refusal, work)

    def begin(self, agent: Agent, body: dict, reply: dict, boot: float) -> Run:
        run = self.compose(body["prompt"]["text"], len(body["prompt"].get("images", ())),
                           agent.model, reply, [run.prompt for run in agent.runs], boot,
                           sum(len(run.prompt + run.text) // 4 for run in agent.runs))
        run.agent, run.planned = agent, agent_frames(run)
        agent.runs.append(run)
        return run

    def compose(self, prompt, images, model, reply, earlier, boot, known=0) -> Run:
        thinking, text = reply.get("thinking", ""), reply.get("text")
        scripted = [data for event, data in reply.get("frames", ()) if event == "assistant"]
        if text and ("{open}" in text or "{close}" in text):
            before, after = brain.marks([*earlier, prompt])
            text = text.replace("{open}", before).replace("{close}", after)
        if text is None and not reply.keys() & {"frames", "raw"}:
            thinks = model["params"].get("thinking") == "true"
            thought, text = brain.answer(prompt, images, thinks, earlier)
            thinking = thinking or thought
            if "SLOW" in brain.asked(prompt):
                reply = reply | {"delay": SLOW_S / len(re.findall(r"\S+", thinking + text))}
        if text is None:
            text = "".join(data.get("text", "") for data in scripted)
        return Run(prompt, images, model["id"], reply, thinking, text, known, boot=boot)

    def list_agents(self, request):
        archived = request.args.get("includeArchived") == "true"
        key = key_of(request)
        with self.changed:
            return page(request, [agent.view() for agent in reversed(self.agents.values())
                                  if not agent.deleted and agent.key == key
                                  and (archived or not agent.archived)])

    def get_agent(self, request, agent):
        return answer(agent.view())

    def delete(self, request, agent):
        with self.changed:
            agent.deleted = True
            self.end(agent.runs[-1], "delete")
        return answer({"id": agent.id})

    def archive(self, request, agent):
        agent.archived = True
        return answer({"id": agent.id})

    def unarchive(self, request, agent):
        agent.archived = False
        return answer({"id": agent.id})

    def usage(self, request, agent):
        wanted = request.args.get("runId")
        if wanted and wanted not in [run.id for run in agent.runs]:
            raise Refusal(404, "run_not_found", "Run not found")
        fields = ("inputTokens", "outputTokens", "cacheWriteTokens", "cacheReadTokens")
        runs, total = [], Counter(dict.fromkeys((*fields, "totalTokens"), 0))
        for run in agent.runs:
            if wanted in (None, run.id):
                usage = {key: 0 if run.active else run.usage.get(key, 0) for key in fields}
                # Here, unlike in a stream, the tokens of the cache are none of the input's.
                held = usage["cacheReadTokens"] + usage["cacheWriteTokens"]
                usage["inputTokens"] -= min(usage["inputTokens"], held)
                usage["totalTokens"] = sum(usage.values())
                total.update(usage)
                runs.append({"id": run.id, "usage": usage})
        return answer({"totalUsage": total, "runs": runs})

    def list_runs(self, request, agent):
        return page(request, [run.view(listed=True) for run in reversed(agent.runs)])

    def get_run(self, request, agent, run):
        return answer(run.view())

    def cancel(self, request, agent, run):
        with self.changed:
            if not self.end(run, "cancel", run.reply.get("cancel_s", 0)):
                raise Refusal(409, "run_not_cancellable", f"Run {run.id} is {run.status}")
        return answer({"id": run.id})

    def end(self, run: Run, by: str, seconds: float = 0) -> bool:
        if not run.active:
            return False
        at = run.age + seconds
        if at < min(run.planned[-1].at, sys.maxsize if run.cancelled_at is None else run.cancelled_at):
            run.cancelled_at, run.cancelled_by = at, by
        self.changed.notify_all()
        return True

    def stream(self, request, agent, run):
        after = request.headers.get("Last-Event-ID")
        if after is not None and after not in {frame.id for frame in run.frames()}:
            raise Refusal(400, "invalid_last_event_id", f"{after} is no event of {run.id}")
        lead = Frame(0, "status", {"runId": run.id, "status": run.status}, part="lead")

        def frames():
            log = run.frames()
            seen = [n for n, frame in enumerate(log) if after and frame.id == after]
            return [lead, *log[max(seen, default=-1) + 1:]]

        retention = {"X-Cursor-Stream-Retention-Seconds": "86400", "Cache-Control": "no-cache"}
        return self.open(request, run, frames, Frame(0, "heartbeat", {}).encode(), retention)

    def chat(self, request):
        body = request.get_json(silent=True)
        messages = body.get("messages") if isinstance(body, dict) else None
        if not messages or not all(isinstance(message, dict) and message.get("parts")
                                   for message in messages):
            raise Refusal(400, "validation_error", "messages: expected a list with role and parts")
        texts = [(message.get("role"), "".join(
            part.get("text", "") for part in message["parts"] if part.get("type") == "text"))
            for message in messages]
        images = sum(part.get("type") == "file" for part in messages[-1]["parts"])
        *earlier, prompt = [text for role, text in texts if role == "user"] or [""]
        if earlier and brain.read(earlier[0]).bare:
            earlier, prompt = [], "\n".join(
                f"<{role}_chat>\n{text}\n</{role}_chat>" for role, text in texts)
        model = check_model({"id": body.get("model") or MODELS[0]["id"]}, "invalid_model")

        def work():
            run = self.compose(prompt, images, model, reply, earlier, reply.get("boot", 0))
            run.planned = ui_frames(run)
            agent = Agent(f"ui-{uuid.uuid4()}", key_of(request), "chat", model, [run])
            self.keep(agent)  # so that the state shows it; it ends with its connection
            version = {"x-vercel-ai-ui-message-stream": "v1", "x-accel-buffering": "no",
                       "Cache-Control": "no-cache"}
            self.pause(request, run.boot)
            return self.open(request, run, lambda: run.planned, b": keep-alive\n\n", version,
                             lambda: self.delete(request, agent))

        reply, refusal = self.choose(prompt, "create")
        return self.act(request, refusal, work)

    def open(self, request, run, frames, heartbeat: bytes, headers: dict, closed=None) -> Response:
        """A connection to a run: `frames()` is what it holds as far as is now known."""
        reply = run.reply
        with self.changed:
            run.connections += 1
            self.open_streams += 1
            if run.connections > reply.get("stream_times", sys.maxsize):
                reply = {key: value for key, value in reply.items() if key not in FAULTS}

        def writes():
            try:
                yield from carve(self.follow(request, run, frames, heartbeat, reply), reply)
            finally:  # Werkzeug does not close the response of a connection that was reset
                with self.changed:
                    self.open_streams -= 1
                if closed:
                    closed()

        return Response(writes(), mimetype="text/event-stream", headers=headers)

    def follow(self, request, run, frames, heartbeat, reply):
        if "raw" in reply:
            raw = reply["raw"]
            if isinstance(raw, dict):
                yield base64.b64decode(raw["base64"])
            else:
                agent = run.agent.id if run.agent else ""
                yield raw.replace("{run}", run.id).replace("{agent}", agent).encode()
            return
        line_end = "\r\n" if reply.get("crlf") else "\n"
        every = reply.get("heartbeat", 15)
        beat, sent, known, left = time.monotonic() + every, 0, object(), []
        while True:
            if known != run.cancelled_at:  # a cancel replaces what is still to come
                known, left = run.cancelled_at, bend(frames(), reply)
            wait = left[sent].at - run.age if sent < len(left) else sys.maxsize
            if left[sent:sent + 1] and (wait <= 0 or left[sent].part == "lead"):
                yield left[sent].encode(line_end)
                sent += 1
            elif wait == sys.maxsize and "stall_after" not in reply:
                return
            elif beat <= time.monotonic():
                beat += every
                if wait < sys.maxsize or reply.get("heartbeats"):
                    yield heartbeat
            elif not self.pause(request, min(wait, beat - time.monotonic()), run):
                return

    # Inspection, called with the lock held

    def inspect(self, request):
        return answer(self.state)

    def set_script(self, request):
        script = request.get_json(silent=True)
        if not isinstance(script, dict):
            raise Refusal(400, "validation_error", "A script is a JSON object")
        self.script(script)
        return answer({})

    def reset(self, request):
        self.forget()
        return answer({})


class Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 65536  # Werkzeug flushes once a chunk, which is then one packet

    def setup(self):
        super().setup()
        self.server.app.connections.add(self.request)

    def finish(self):
        self.server.app.connections.discard(self.request)
        with contextlib.suppress(OSError):  # what is left for a client that has gone
            super().finish()

    def connection_dropped(self, error, environ=None):
        self.close_connection = True
        if isinstance(error, Reset):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.connection.detach())  # close() would wait for the files that share it

    def log_request(self, code="-", size="-"):
        pass


@contextlib.contextmanager
def serve(script: dict | None = None, *, port: int = 0, **defaults):
    """A running Simulator with its `url`; `defaults` are keys of a reply, for every run."""
    simulator = Simulator(script, **defaults)
    server = make_server("127.0.0.1", port, simulator, threaded=True, request_handler=Handler)
    simulator.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield simulator
    finally:
        simulator.stop()
        server.shutdown()
        thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m cursor2api.simulator")
    parser.add_argument("--port", type=int, default=8003, help="0: any free port")
    parser.add_argument("--script", type=argparse.FileType(), help="a JSON file")
    parser.add_argument("--boot", type=float, default=0, help="seconds that a new agent takes")
    parser.add_argument("--until-eof", action="store_true", help="stop when standard input ends")
    options = parser.parse_args()
    script = json.load(options.script) if options.script else None
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    with serve(script, port=options.port, boot=options.boot, delay=0.02) as simulator:
        print(simulator.url, flush=True)
        _wait(options.until_eof)


def _wait(until_eof: bool) -> None:
    """Until standard input ends, if that is asked for. No wait is long: a signal that comes just before one, or to
    another thread, is heard after it."""
    while not (select.select([0] * until_eof, [], [], 1)[0] and not os.read(0, 65536)):
        pass
