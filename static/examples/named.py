from openai import OpenAI

client = OpenAI(base_url="http://127.0.0.1:8002/v1", api_key="0000")
tool = {"type": "function", "function": {
    "name": "get_weather",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}}
reply = client.chat.completions.create(
    model="claude-sonnet-4-5-20250929",
    tools=[tool],
    tool_choice={"type": "function", "function": {"name": "get_weather"}},
    messages=[{"role": "user", "content": "I am in Paris."}],
)
call = reply.choices[0].message.tool_calls[0]
print(call.function.name, call.function.arguments)
