import OpenAI from "openai";

const client = new OpenAI({baseURL: "http://127.0.0.1:8002/v1", apiKey: "0000"});
for await (const model of client.models.list()) console.log(model.id);
