from openai import OpenAI

client = OpenAI(base_url="http://127.0.0.1:8002/v1", api_key="0000")
response = client.responses.create(
    model="claude-sonnet-4-5-20250929",
    input="Hello",
)
print(response.output_text)
