from openai import OpenAI

client = OpenAI(base_url="http://127.0.0.1:8002/v1", api_key="0000")
stream = client.chat.completions.create(
    model="claude-sonnet-4-5-20250929",
    stream=True,
    messages=[{"role": "user", "content": "Hello"}],
)
for chunk in stream:
    print(chunk.choices[0].delta.content or "", end="", flush=True)
