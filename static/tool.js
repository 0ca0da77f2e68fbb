// The tool that the page can offer to a model. Nothing runs it: the reader writes what it gives.

export const TOOL = {name: "get_weather", description: "The weather of a city", parameters: {
  type: "object", properties: {city: {type: "string"}}, required: ["city"]}};
/** What a result says before the reader has changed it. */
export const RESULT = "22 °C, sunny";
