// with KILO_TOOL_STRICT=true the reply is a call, whatever the message
import OpenAI from "openai";

const client = new OpenAI({baseURL: "http://127.0.0.1:8002/v1", apiKey: "0000"});
const tool = {type: "function", function: {
  name: "attempt_completion",
  parameters: {
    type: "object",
    properties: {result: {type: "string"}},
    required: ["result"],
  },
}};
const reply = await client.chat.completions.create({
  model: "claude-sonnet-4-5-20250929",
  tools: [tool],
  messages: [{role: "user", content: "Say hello."}],
});
const [call] = reply.choices[0].message.tool_calls;
console.log(call.function.name, call.function.arguments);
