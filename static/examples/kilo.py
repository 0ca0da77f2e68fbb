# with KILO_TOOL_STRICT=true the reply is a call, whatever the message
from openai import OpenAI

client = OpenAI(base_url="http://127.0.0.1:8002/v1", api_key="0000")
tool = {"type": "function", "function": {
    "name": "attempt_completion",
    "parameters": {
        "type": "object",
        "properties": {"result": {"type": "string"}},
        "required": ["result"],
    },
}}
reply = client.chat.completions.create(
    model="claude-sonnet-4-5-20250929",
    tools=[tool],
    messages=[{"role": "user", "content": "Say hello."}],
)
call = reply.choices[0].message.tool_calls[0]
print(call.function.name, call.function.arguments)
