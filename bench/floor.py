"""What the gateway's three calls cost by themselves: its Http, which is requests, under gunicorn and Werkzeug."""

import json
import os
import uuid
from concurrent.futures import ThreadPoolExecutor

from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response

from cursor2api.upstream.http import Http, Limits

HTTP = Http(os.environ["FLOOR_UPSTREAM"], {"Authorization": "Bearer key"}, Limits(10, 60, 60, 1), 1100)
URLS = Map([Rule("/v1/chat/completions", endpoint="chat", methods=["POST"])])
CLEANER = ThreadPoolExecutor(4)


def chat(request):
    prompt = request.get_json()["messages"][-1]["content"]
    path = f"/v1/agents/{uuid.uuid4()}"
    made = HTTP.call("POST", "/v1/agents", json={"prompt": {"text": prompt}, "model": {"id": "bench"}})
    run = json.loads(made.content)["run"]["id"]
    stream = HTTP.call("GET", f"{path}/runs/{run}/stream", stream=True)
    return Response(chunks(stream, path), mimetype="text/event-stream")


def chunks(stream, path):
    yield 'data: {"choices":[{"delta":{"role":"assistant"}}]}\n\n'
    rest = b""
    while data := stream.read():
        *lines, rest = (rest + data).split(b"\n")
        for line in map(bytes.decode, lines):
            if line.startswith('data: {"text":'):
                yield f'data: {{"choices":[{{"delta":{{"content":{line[14:]}}}]}}\n\n'
    yield 'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    stream.finish()
    CLEANER.submit(HTTP.call, "DELETE", path)


def app(environ, start_response):
    URLS.bind_to_environ(environ).match()
    return chat(Request(environ))(environ, start_response)
