// What the model is to say is added to a client's requests on their way out; SERVER, MODEL and END come from the environment.

export const { SERVER, MODEL, END } = process.env;

export async function tokensOf(text) {
  const asked = { prompt: text, add_special_tokens: false };
  const answer = await fetch(`${SERVER}/tokenize`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(asked),
  });
  return (await answer.json()).tokens;
}

// How many results of tools a conversation holds, in any of the three APIs.
function numToolResults(body) {
  const items = Array.isArray(body.input) ? body.input : [];
  let count = items.filter((item) => String(item.type).endsWith("_output")).length;
  for (const message of body.messages ?? []) {
    const parts = Array.isArray(message.content) ? message.content : [];
    count += message.role === "tool" ? 1 : parts.filter((part) => part.type === "tool_result").length;
  }
  return count;
}

// A fetch for a client whose model says the text that stands at the number of results that a request holds.
export function saying(...texts) {
  return async (url, options) => {
    if (options?.method?.toUpperCase() !== "POST") return fetch(url, options);
    const body = JSON.parse(options.body);
    const forced = await tokensOf(texts[numToolResults(body)] + END);
    return fetch(url, { ...options, body: JSON.stringify({ ...body, forced_token_ids: forced }) });
  };
}

// As models of the family hermes write them, down to the blanks: a strict tool's call is held to that.
export const call = (name, given) => `<tool_call>\n{"name": "${name}", "arguments": ${JSON.stringify(given)}}\n</tool_call>`;
export const thought = (text) => `<think>\n${text}\n</think>\n\n`;
