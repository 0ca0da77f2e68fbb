"""The obvious relay, to measure against: one requests.post a request, and JSON decoded and encoded an event."""

import json
import os
import time
import uuid

import requests
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response

UPSTREAM = os.environ["NAIVE_UPSTREAM"]
URLS = Map([Rule("/v1/chat/completions", endpoint="chat", methods=["POST"])])


def chat(request):
    body = request.get_json()
    prompt = "\n\n".join(f"{message['role']}: {message['content']}" for message in body["messages"])
    upstream = requests.post(UPSTREAM, json={"prompt": {"text": prompt}, "model": {"id": body["model"]}},
                             headers={"Authorization": "Bearer key"}, stream=True, timeout=120)
    upstream.raise_for_status()
    return Response(chunks(upstream, body["model"]), mimetype="text/event-stream")


def chunks(upstream, model):
    id, created = f"chatcmpl-{uuid.uuid4().hex}", int(time.time())

    def chunk(delta, finish=None):
        return "data: " + json.dumps({
            "id": id, "object": "chat.completion.chunk", "created": created, "model": model,
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}) + "\n\n"

    yield chunk({"role": "assistant", "content": ""})
    event = None
    for line in upstream.iter_lines():
        if line.startswith(b"event: "):
            event = line[7:]
        elif line.startswith(b"data: "):
            data = json.loads(line[6:])
            if event == b"assistant":
                yield chunk({"content": data["text"]})
            elif event == b"result":
                yield chunk({}, "stop")
    yield "data: [DONE]\n\n"


def app(environ, start_response):
    request = Request(environ)
    try:
        URLS.bind_to_environ(environ).match()
        response = chat(request)
    except HTTPException as error:
        response = error
    return response(environ, start_response)
