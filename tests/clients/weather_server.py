"""An MCP server over stdio, with one tool: a JSON-RPC message a line, in and out."""

import json
import sys

TOOL = {"name": "get_weather", "description": "Weather of a city", "inputSchema": {
    "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}


def result(method, params):
    if method == "initialize":
        return {"protocolVersion": params["protocolVersion"], "capabilities": {"tools": {}},
                "serverInfo": {"name": "weather", "version": "1"}}
    if method == "tools/list":
        return {"tools": [TOOL]}
    if method == "tools/call":
        return {"content": [{"type": "text", "text": f"18 degrees in {params['arguments']['city']}"}]}
    return {}


for line in sys.stdin:
    message = json.loads(line)
    if "id" in message:  # else nobody waits for an answer
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"],
                          "result": result(message["method"], message.get("params"))}), flush=True)
