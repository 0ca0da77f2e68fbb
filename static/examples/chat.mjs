import OpenAI from "openai";

const client = new OpenAI({baseURL: "http://127.0.0.1:8002/v1", apiKey: "0000"});
const reply = await client.chat.completions.create({
  model: "claude-sonnet-4-5-20250929",
  messages: [{role: "user", content: "Hello"}],
});
console.log(reply.choices[0].message.content);
