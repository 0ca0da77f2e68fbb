# with KILO_TOOL_STRICT=true the reply is a call, whatever the message
curl http://127.0.0.1:8002/v1/chat/completions \
  -H "Authorization: Bearer 0000" \
  -H "Content-Type: application/json" \
  -d '{
    "model": "claude-sonnet-4-5-20250929",
    "messages": [{"role": "user", "content": "Say hello."}],
    "tools": [{"type": "function", "function": {
      "name": "attempt_completion",
      "parameters": {
        "type": "object",
        "properties": {"result": {"type": "string"}},
        "required": ["result"]
      }
    }}]
  }'
