// The tool that the page can offer to a model. It is not run: its result is always the same.

export const TOOL = {name: "get_weather", description: "The weather of a city", parameters: {
  type: "object", properties: {city: {type: "string"}}, required: ["city"]}};
export const RESULT = "22 °C, sunny";
