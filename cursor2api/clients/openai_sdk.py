"""OpenAI's SDKs: a program in Python, and one in JavaScript."""

from . import Client, File, Gateway, quoted


def files(gateway: Gateway) -> tuple[File, ...]:
    base, key, model = (quoted(text) for text in (gateway.address + "/v1", gateway.key, gateway.model))
    return (File("chat.py", "python", f"""\
from openai import OpenAI  # pip install openai

client = OpenAI(base_url={base}, api_key={key})
reply = client.chat.completions.create(
    model={model},
    messages=[{{"role": "user", "content": "Hello"}}],
)
print(reply.choices[0].message.content)
"""), File("chat.mjs", "javascript", f"""\
import OpenAI from "openai"; // npm install openai

const client = new OpenAI({{ baseURL: {base}, apiKey: {key} }});
const reply = await client.chat.completions.create({{
  model: {model},
  messages: [{{ role: "user", content: "Hello" }}],
}});
console.log(reply.choices[0].message.content);
"""))


CLIENT = Client(
    "openai", "OpenAI SDKs", files, "python chat.py",
    turn_off=(),
    cannot=("There are no embeddings, generated images, audio, files or batches.",),
    tried="openai for Python 3.54.0, for JavaScript 7.59.0")
