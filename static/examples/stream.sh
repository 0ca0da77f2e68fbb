curl -N http://127.0.0.1:8002/v1/chat/completions \
  -H "Authorization: Bearer 0000" \
  -H "Content-Type: application/json" \
  -d '{
    "model": "claude-sonnet-4-5-20250929",
    "stream": true,
    "messages": [{"role": "user", "content": "Hello"}]
  }'
