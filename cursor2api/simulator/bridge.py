"""A stand-in for the bridge of Cursor's SDK: sdk.v1 on one side, a simulator as Cursor on the other.

    python -m cursor2api.simulator.bridge [--backend URL] [--cut BYTES]

The simulator's script plays here too; without a URL one is started. Text only: it refuses an agent that
has tools, reviews nothing or works in a folder that is not empty. It dies when the simulator resets a
connection; an event `shell` ({"command"}) is run, as a hostile Cursor could have it, and its output said;
one named `sdk` is a message as it is.
What it takes from the real one: https://github.com/cursor/sdk-bridge and recordings of cursor-sdk 1.1.0.
"""

import argparse
import contextlib
import http.client
import json
import os
import secrets
import signal
import struct
import subprocess
import sys
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

READY = "cursor-sdk-bridge ready "
KEEPALIVE_S = 15
AGENT, CURSOR, CONTROL = (f"sdk.v1.Sdk{name}Service" for name in ("Agent", "Cursor", "BridgeControl"))
STATUS = {"invalid_argument": 400, "unauthenticated": 401, "permission_denied": 403, "not_found": 404,
          "unimplemented": 404, "failed_precondition": 412, "resource_exhausted": 429, "internal": 500,
          "unavailable": 503}
CODES = {400: "invalid_argument", 401: "unauthenticated", 403: "permission_denied", 404: "not_found",
         409: "failed_precondition", 429: "resource_exhausted", 500: "internal"}
LAST = 2


class Failure(Exception):
    """An error of Connect."""

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code, self.message = code, message


def code_of(status: int) -> str:
    return CODES.get(status, "unavailable")


class Backend:
    """The simulator's Cloud Agents API. A connection that it resets is the death of this process."""

    def __init__(self, url: str):
        self.host = urlsplit(url).netloc

    def ask(self, method: str, path: str, key: str, body: dict | None = None, **headers: str):
        """The response, not yet read. Raises Failure for a refusal."""
        connection = http.client.HTTPConnection(self.host)
        with fatal():
            connection.request(method, path, json.dumps(body) if body else None, {
                "Authorization": f"Bearer {key}", "Content-Type": "application/json", **headers})
            response = connection.getresponse()
            if response.status < 400:
                return response
            data = response.read()
        try:
            message = json.loads(data)["error"]["message"]
        except ValueError:
            message = "not in the documented form"
        raise Failure(code_of(response.status), message)

    def tell(self, method: str, path: str, key: str, body: dict | None = None) -> dict:
        response = self.ask(method, path, key, body)
        with fatal():
            return json.loads(response.read() or b"{}")


@contextlib.contextmanager
def fatal():
    try:
        yield
    except (ConnectionError, http.client.HTTPException):
        os._exit(70)


class Agent:
    """`cloud` is its name at the simulator, where it is made with its first run."""

    def __init__(self, options: dict):
        self.id = options.get("agentId") or f"agent-{uuid.uuid4()}"
        self.key, self.model = options["apiKey"], options["model"]
        self.cloud, self.runs = f"bc-{uuid.uuid4()}", 0


class Run:
    def __init__(self, agent: Agent):
        self.agent, self.id, self.cloud, self.over = agent, f"run-{uuid.uuid4()}", "", False
        self.cancelled = False


class Bridge:
    """The service; its public methods are the RPCs, by their names on the wire."""

    def __init__(self, backend: Backend, stop):
        self.backend, self.stop = backend, stop
        self.agents: dict[str, Agent] = {}  # that can be sent to
        self.stored: dict[str, Agent] = {}
        self.runs: dict[str, Run] = {}

    # Control and catalogue

    def Ping(self, _):
        return {"message": "pong"}

    def GetVersion(self, _):
        return {"bridgeVersion": "simulator", "protocolVersion": "sdk.v1",
                "capabilities": ["agent.create", "agent.send", "run.cancel", "cursor.catalog"]}

    def Shutdown(self, _):
        self.stop()
        return {}

    def ListModels(self, message):
        models = self.backend.tell("GET", "/v1/models", self.key(message.get("options")))["items"]
        return {"items": [{name: value for name, value in model.items() if name != "aliases"}
                          for model in models]}

    # Agents

    def CreateAgent(self, message):
        options = message.get("options") or {}
        if options.keys() - {"agentId", "apiKey", "model", "name", "local", "tools"}:
            raise Failure("invalid_argument", f"not played here: {sorted(options)}")
        models = self.backend.tell("GET", "/v1/models", self.key(options))["items"]
        if not (options.get("model") or {}).get("id"):
            raise Failure("invalid_argument", "Agent.create requires model")
        wanted = options["model"]["id"]
        if not any(wanted in (model["id"], *model.get("aliases", ())) for model in models):
            raise Failure("invalid_argument", f"Cannot use this model: {wanted}.")
        local = options.get("local") or {}
        if "tools" not in options or (options["tools"] or {}).get("names"):
            raise Failure("invalid_argument", "not played here: an agent that has tools")
        if local.keys() != {"cwd", "autoReview"} or local["autoReview"] is not True or any(
                os.listdir(folder) for folder in local["cwd"]):
            raise Failure("invalid_argument", f"not played here: {local}")
        agent = Agent(options)
        self.agents[agent.id] = self.stored[agent.id] = agent
        return {"agentId": agent.id, "model": agent.model}

    def CloseAgent(self, message):
        agent = self.agent(message)
        del self.agents[agent.id]
        for run in self.runs_of(agent):
            del self.runs[run.id]  # it goes on, and nobody can cancel it any more
        return {}

    def DeleteAgent(self, message):
        agent = self.stored.pop(message.get("agentId"), None)
        if agent is None:
            raise Failure("not_found", f"Agent {message.get('agentId')} not found")
        if agent.runs:
            self.backend.tell("DELETE", f"/v1/agents/{agent.cloud}", agent.key)
        return {}

    def CancelRun(self, message):
        run = self.runs.get(message.get("runId"))
        if run is None:
            raise Failure("not_found", f"Run {message.get('runId')} not found")
        run.cancelled = True
        if run.cloud:
            self.backend.tell("POST", f"/v1/agents/{run.agent.cloud}/runs/{run.cloud}/cancel", run.agent.key)
        return {}

    def Send(self, message):
        """Yields the run's messages; None is a moment of silence."""
        agent, sent = self.agent(message), message.get("message") or {}
        if not all(run.over for run in self.runs_of(agent)):
            raise Failure("internal", f"Agent {agent.id} already has active run")
        if any("data" not in image for image in sent.get("images", ())):
            raise Failure("invalid_argument", "URL images are only supported for cloud-routed agents")
        run = Run(agent)
        self.runs[run.id] = run
        ids = {"agent_id": agent.id, "run_id": run.id}

        def said(type, **more):
            return {"sdkMessage": {"type": type, "message": {"type": type, **ids, **more}}}

        yield said("status", status="RUNNING")
        try:
            result = yield from self.follow(run, sent, said)
        except Failure as failure:
            result = {"status": "ERROR", "errorMessage": f"[{failure.code}] {failure.message}"}
        run.over = True
        more = {"message": result["errorMessage"]} if "errorMessage" in result else {}
        yield said("status", status=result["status"], **more)
        result |= {"runId": run.id, "agentId": agent.id,
                   "status": f"RUN_LIFECYCLE_STATUS_{result['status']}"}
        yield {"result": {"agentId": agent.id, "runId": run.id, "status": result["status"],
                          "result": result}}
        yield {"done": {"agentId": agent.id, "runId": run.id}}

    def follow(self, run: Run, sent: dict, said):
        """The run's messages; its result is what the generator returns."""
        agent = run.agent
        prompt = {"text": sent.get("text"), "images": [image["data"] for image in sent.get("images", ())]}
        first = not agent.runs
        path = "/v1/agents" if first else f"/v1/agents/{agent.cloud}/runs"
        more = {"agentId": agent.cloud, "model": agent.model, "env": {"type": "cloud"}, "repos": []}
        made = self.backend.tell("POST", path, agent.key, {"prompt": prompt, **(more if first else {})})
        agent.runs += 1
        run.cloud = made["run"]["id"]
        path = f"/v1/agents/{agent.cloud}/runs/{run.cloud}"
        if run.cancelled:
            with contextlib.suppress(Failure):  # it is over already
                self.backend.tell("POST", path + "/cancel", agent.key)
        if agent.id not in self.stored:  # deleted while its run was made
            self.backend.tell("DELETE", f"/v1/agents/{agent.cloud}", agent.key)
        thought, usage = False, None
        for event, data in events(self.backend.ask("GET", path + "/stream", agent.key)):
            if event == "thinking":
                thought = True
                yield said("thinking", text=data["text"])
            elif thought and event in ("assistant", "result"):
                thought = False
                yield said("thinking", text="", thinking_duration_ms=1)
            if event == "shell":
                done = subprocess.run(data["command"], shell=True, text=True, stdin=subprocess.DEVNULL,
                                      stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
                event, data = "assistant", {"text": done.stdout}
            if event == "sdk":
                yield data
            if event == "assistant":
                yield said("assistant", message={"role": "assistant", "content": [
                    {"type": "text", "text": data["text"]}]})
            elif event == "heartbeat":
                yield {}
            elif event == "interaction_update" and data["type"] == "turn-ended":
                usage = dict(data["usage"])
                yield said("usage", usage=usage)
            elif event == "error":
                raise Failure(data.get("code") or "unknown", data["message"])
            elif event == "result":
                result = {"status": data["status"], "result": data.get("text", "")}
                return result | ({"usage": {name: str(count) for name, count in usage.items()}}
                                 if usage else {})
        raise Failure("unavailable", "the stream ended without a result")

    def runs_of(self, agent: Agent) -> list[Run]:
        return [run for run in list(self.runs.values()) if run.agent is agent]

    def agent(self, message: dict) -> Agent:
        agent = self.agents.get(message.get("agentId"))
        if agent is None:
            raise Failure("not_found", f"Unknown agent: {message.get('agentId')}")
        return agent

    @staticmethod
    def key(options: dict | None) -> str:
        key = (options or {}).get("apiKey")
        if not key:
            raise Failure("unauthenticated", "API key is required.")
        return key


RPCS = {AGENT: ("CreateAgent", "CloseAgent", "DeleteAgent", "CancelRun", "Send"),
        CURSOR: ("ListModels",), CONTROL: ("Ping", "GetVersion", "Shutdown")}


def events(response):
    """(event, data) of an SSE stream that has no field but these and id."""
    event = ""
    while True:
        with fatal():
            line = response.readline()
        if not line:
            return
        name, _, value = line.decode().rstrip("\r\n").partition(": ")
        if name == "event":
            event = value
        elif name == "data":
            yield event, json.loads(value)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self):
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        service, _, method = self.path.strip("/").partition("/")
        streamed = method == "Send"
        expected = "application/connect+json" if streamed else "application/json"
        try:
            if self.headers.get("Authorization") != f"Bearer {self.server.token}":
                raise Failure("unauthenticated", "Unauthorized")
            if method not in RPCS.get(service, ()):
                raise Failure("unimplemented", self.path)
            if self.headers.get("Content-Type") != expected:
                raise Failure("invalid_argument", f"Content-Type: expected {expected}")
            if streamed and (len(data) < 5 or struct.unpack(">BI", data[:5]) != (0, len(data) - 5)):
                raise Failure("invalid_argument", "expected one message in its envelope")
            answer = getattr(self.server.bridge, method)(json.loads(data[5 if streamed else 0:]))
        except (Failure, ValueError) as error:
            return self.refuse(error)
        if streamed:
            self.stream(answer)
        else:
            self.answer(200, answer)

    def refuse(self, error: Exception) -> None:
        code = getattr(error, "code", "invalid_argument")
        self.answer(STATUS.get(code, 500), {"code": code, "message": str(error)})

    def answer(self, status: int, value: dict) -> None:
        data = json.dumps(value).encode()
        self.begin(status, "application/json", "Content-Length", str(len(data)))
        self.wfile.write(data)

    def begin(self, status: int, kind: str, framing: str, value: str) -> None:
        self.send_response(status)
        for header in (("Content-Type", kind), (framing, value), ("Connection", "close")):
            self.send_header(*header)
        self.end_headers()

    def stream(self, messages) -> None:
        """The messages, and a sign of life in a silence. A run goes on if nobody listens any more."""
        self.begin(200, "application/connect+json", "Transfer-Encoding", "chunked")
        lock, over, offset = threading.Lock(), threading.Event(), 0

        def write(value: dict, flags: int = 0) -> None:
            data = json.dumps(value, ensure_ascii=False).encode(errors="replace")
            data = struct.pack(">BI", flags, len(data)) + data
            cut = self.server.cut or len(data)
            pieces = [data[n:n + cut] for n in range(0, len(data), cut)] + [b""] * bool(flags)
            with lock, contextlib.suppress(OSError):
                for piece in pieces:
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))

        def keep_alive() -> None:
            while not over.wait(KEEPALIVE_S):
                write({})

        threading.Thread(target=keep_alive, daemon=True).start()
        try:
            for message in messages:
                offset += bool(message)
                write(message | ({"offset": str(offset)} if message else {}))
            end = {}
        except Failure as failure:
            end = {"error": {"code": failure.code, "message": failure.message}}
        over.set()
        write(end, LAST)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m cursor2api.simulator.bridge")
    parser.add_argument("--backend", default="", help="URL of a simulator")
    parser.add_argument("--cut", type=int, default=0, help="bytes a write")
    for ignored in ("--workspace", "--tool-callback-url", "--tool-callback-auth-token"):
        parser.add_argument(ignored, help="taken and ignored")
    options = parser.parse_args()
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    with contextlib.ExitStack() as stack:
        if not options.backend:
            from .cursor import serve
            options.backend = stack.enter_context(serve(delay=0.02)).url
        server = Server(("127.0.0.1", 0), Handler)
        server.token, server.cut = secrets.token_urlsafe(), options.cut
        server.bridge = Bridge(Backend(options.backend), stopped.set)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        ready = {"schemaVersion": 1, "transport": "tcp", "protocol": "connect", "pid": os.getpid(),
                 "url": f"http://127.0.0.1:{server.server_port}", "authToken": server.token}
        print(READY + json.dumps(ready), file=sys.stderr, flush=True)
        while not stopped.wait(1):  # a signal that comes to another thread is heard after a wait
            pass


if __name__ == "__main__":
    main()
