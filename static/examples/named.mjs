import OpenAI from "openai";

const client = new OpenAI({baseURL: "http://127.0.0.1:8002/v1", apiKey: "0000"});
const tool = {type: "function", function: {
  name: "get_weather",
  parameters: {
    type: "object",
    properties: {city: {type: "string"}},
    required: ["city"],
  },
}};
const reply = await client.chat.completions.create({
  model: "claude-sonnet-4-5-20250929",
  tools: [tool],
  tool_choice: {type: "function", function: {name: "get_weather"}},
  messages: [{role: "user", content: "I am in Paris."}],
});
const [call] = reply.choices[0].message.tool_calls;
console.log(call.function.name, call.function.arguments);
