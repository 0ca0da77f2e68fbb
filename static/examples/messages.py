import json
from urllib.request import Request, urlopen

body = {
    "model": "claude-sonnet-4-5-20250929",
    "max_tokens": 1024,
    "messages": [{"role": "user", "content": "Hello"}],
}
headers = {"x-api-key": "0000", "Content-Type": "application/json"}
request = Request("http://127.0.0.1:8002/v1/messages", json.dumps(body).encode(), headers)
print(json.load(urlopen(request))["content"][0]["text"])
