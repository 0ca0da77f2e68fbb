import OpenAI from "openai";

const client = new OpenAI({baseURL: "http://127.0.0.1:8002/v1", apiKey: "0000"});
const stream = await client.chat.completions.create({
  model: "claude-sonnet-4-5-20250929",
  stream: true,
  messages: [{role: "user", content: "Hello"}],
});
for await (const chunk of stream) {
  process.stdout.write(chunk.choices[0].delta.content ?? "");
}
