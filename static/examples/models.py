from openai import OpenAI

client = OpenAI(base_url="http://127.0.0.1:8002/v1", api_key="0000")
for model in client.models.list():
    print(model.id)
