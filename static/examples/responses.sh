curl http://127.0.0.1:8002/v1/responses \
  -H "Authorization: Bearer 0000" \
  -H "Content-Type: application/json" \
  -d '{
    "model": "claude-sonnet-4-5-20250929",
    "input": "Hello"
  }'
