"""OpenAI's SDKs for Python and JavaScript."""

from . import Client, File, Service, quoted


def files(service: Service) -> tuple[File, ...]:
    model, base, key = quoted(service.model), quoted(service.base), quoted(service.key)
    return (
        File("", "python", f"""from openai import OpenAI

client = OpenAI(base_url={base}, api_key={key})
reply = client.chat.completions.create(model={model}, messages=[{{"role": "user", "content": "Hello"}}])
print(reply.choices[0].message.content)
"""),
        File("", "js", f"""import OpenAI from "openai";

const client = new OpenAI({{baseURL: {base}, apiKey: {key}}});
const messages = [{{role: "user", content: "Hello"}}];
const reply = await client.chat.completions.create({{model: {model}, messages}});
console.log(reply.choices[0].message.content);
"""))


CLIENT = Client(
    "openai", "OpenAI SDKs", files, None,
    (),
    ("Embeddings, audio, made pictures, files and batches are not there.",),
    "openai 2 for Python, 7 for JavaScript")
