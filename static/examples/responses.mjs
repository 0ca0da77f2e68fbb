import OpenAI from "openai";

const client = new OpenAI({baseURL: "http://127.0.0.1:8002/v1", apiKey: "0000"});
const response = await client.responses.create({
  model: "claude-sonnet-4-5-20250929",
  input: "Hello",
});
console.log(response.output_text);
