// The controls beside a conversation, and the fields of a request that they stand for. Knows no server.

import { element, field, newId, select } from "./elements.js";

// Field of the request, label, step, least, most.
const NUMBERS = [
  ["temperature", "Temperature", 0.05, 0, 2],
  ["top_p", "Top p", 0.01, 0, 1],
  ["top_k", "Top k", 1, 0, 100000],
  ["min_p", "Min p", 0.01, 0, 1],
  ["repetition_penalty", "Repetition penalty", 0.05, 0, 2],
  ["presence_penalty", "Presence penalty", 0.1, -2, 2],
  ["frequency_penalty", "Frequency penalty", 0.1, -2, 2],
];

const SAMPLE_TOOL = [{
  type: "function",
  function: {
    name: "get_weather",
    description: "The weather in a city.",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
}];
const SAMPLE_SCHEMA = {
  type: "object",
  properties: { name: { type: "string" }, length_km: { type: "number" } },
  required: ["name", "length_km"],
};

const FORMS = [
  ["text", "Any text"], ["json_object", "JSON"], ["json_schema", "JSON by a schema"], ["regex", "A regular expression"],
  ["choice", "One of these lines"],
];
const SAMPLES_OF_FORMS = { json_schema: JSON.stringify(SAMPLE_SCHEMA, null, 2), regex: "(yes|no), because [a-z ]{10,60}\\.", choice: "yes\nno" };

export class SamplingForm {
  constructor(model) {
    this.system = element("textarea", { rows: 3, placeholder: "None", spellcheck: "false" });
    this.numbers = NUMBERS.map(([name, label, step, min, max]) =>
      [name, label, element("input", { type: "number", step, min, max, placeholder: "model's own", inputmode: "decimal" })]);
    this.maxTokens = element("input", { type: "number", min: 1, value: 512, placeholder: "what fits" });
    this.seed = element("input", { type: "number", min: 0, step: 1, placeholder: "drawn" });
    this.samples = element("input", { type: "number", min: 1, max: 8, step: 1, value: 1 });
    this.stop = element("textarea", { rows: 2, placeholder: "One a line", spellcheck: "false" });
    this.hasProbabilities = element("input", { type: "checkbox", checked: true, id: newId("field") });
    this.effort = select([["", "As the model likes"], ["none", "None"], ["low", "Low"], ["medium", "Medium"], ["high", "High"]], "");
    this.form = select(FORMS, "text");
    this.formText = element("textarea", { rows: 5, spellcheck: "false", class: "code" });
    this.tools = element("textarea", { rows: 6, spellcheck: "false", class: "code", placeholder: "A JSON list, as in the API" });
    this.toolChoice = select([["auto", "The model decides"], ["required", "It has to call"], ["none", "It may not call"]], "auto");
    this.node = this.#draw(model);
  }

  #draw(model) {
    const formText = field("Its form", this.formText);
    formText.hidden = true;
    this.form.addEventListener("change", () => {
      formText.hidden = !(this.form.value in SAMPLES_OF_FORMS);
      this.formText.value = SAMPLES_OF_FORMS[this.form.value] ?? "";
    });
    const sample = element("button", { type: "button", class: "quiet", onclick: () => {
      this.tools.value = JSON.stringify(SAMPLE_TOOL, null, 2);
    } }, "Fill in an example");
    const calls = model.tool_calls?.family
      ? `This model calls tools as the family ${model.tool_calls.family} does.`
      : "No way of calling tools is known of this model.";
    return element("form", { class: "controls", "aria-label": "How answers are made", onsubmit: (event) => event.preventDefault() },
      field("System prompt", this.system),
      element("div", { class: "pair" }, field("Samples", this.samples), field("Most tokens", this.maxTokens)),
      element("div", { class: "pair" },
        field(this.numbers[0][1], this.numbers[0][2]),
        field("Seed", this.seed)),
      element("div", { class: "tick" }, this.hasProbabilities,
        element("label", { for: this.hasProbabilities.id }, "Token probabilities")),
      model.reasoning?.family ? field("Thinking", this.effort) : null,
      element("details", {}, element("summary", {}, "More of sampling"),
        element("div", { class: "pair" }, this.numbers.slice(1).map(([, label, input]) => field(label, input))),
        field("Stop at", this.stop)),
      element("details", {}, element("summary", {}, "Form of the answer"), field("The answer is", this.form), formText),
      element("details", {}, element("summary", {}, "Tools"), field("Tools", this.tools, calls), sample,
        field("Calls", this.toolChoice)));
  }

  get numSamples() {
    return Math.min(8, Math.max(1, Math.trunc(Number(this.samples.value)) || 1));
  }

  // The fields of the request; throws an Error in words where what was typed is no JSON.
  fields() {
    const fields = { n: this.numSamples };
    for (const [name, , input] of this.numbers) if (input.value !== "") fields[name] = Number(input.value);
    if (this.maxTokens.value !== "") fields.max_tokens = Number(this.maxTokens.value);
    if (this.seed.value !== "") fields.seed = Number(this.seed.value);
    const stop = this.stop.value.split("\n").filter((line) => line !== "");
    if (stop.length) fields.stop = stop;
    if (this.hasProbabilities.checked) Object.assign(fields, { logprobs: true, top_logprobs: 5 });
    if (this.effort.value) fields.reasoning_effort = this.effort.value;
    if (this.tools.value.trim()) {
      fields.tools = parse(this.tools.value, "the tools");
      fields.tool_choice = this.toolChoice.value;
    }
    return { ...fields, ...this.#formFields() };
  }

  #formFields() {
    const text = this.formText.value;
    switch (this.form.value) {
      case "json_object": return { response_format: { type: "json_object" } };
      case "json_schema":
        return { response_format: { type: "json_schema", json_schema: { name: "answer", schema: parse(text, "the schema") } } };
      case "regex": return { structured_outputs: { regex: text } };
      case "choice": return { structured_outputs: { choice: text.split("\n").filter((line) => line !== "") } };
      default: return {};
    }
  }
}

function parse(text, what) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`${what} are no JSON: ${error.message}`);
  }
}
