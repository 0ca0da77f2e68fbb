const response = await fetch("http://127.0.0.1:8002/v1/messages", {
  method: "POST",
  headers: {"x-api-key": "0000", "Content-Type": "application/json"},
  body: JSON.stringify({
    model: "claude-sonnet-4-5-20250929",
    max_tokens: 1024,
    messages: [{role: "user", content: "Hello"}],
  }),
});
console.log((await response.json()).content[0].text);
