// Asks the server: where it is, what goes wrong in words, and events as they come. Knows no view.

// The page may stand behind a proxy, below some path: everything is asked for beside it.
const BASE = new URL("../", import.meta.url);

export class ServerError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

// Called when the server wants to know who asks.
let onStranger = () => {};

export function whenAKeyIsNeeded(action) {
  onStranger = action;
}

// Of several models the one that is looked at: what shows processes and requests is asked of it.
let model = null;

export function lookAt(name) {
  model = name;
}

function addressOf(path) {
  const address = new URL(path, BASE);
  if (model !== null && /^(debug\/|topology)/.test(path)) address.searchParams.set("model", model);
  return address;
}

// The answer to a request, once its headers have come; an error has the server's own words.
export async function ask(path, { method = "GET", body = undefined, signal = undefined } = {}) {
  const headers = body === undefined ? {} : { "content-type": "application/json" };
  let response;
  try {
    response = await fetch(addressOf(path), {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
      credentials: "same-origin",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError("the server cannot be reached", 0);
  }
  if (response.ok) return response;
  const error = new ServerError(await wordsOf(response), response.status);
  if (response.status === 401 && path !== "login") onStranger();
  throw error;
}

export async function askJson(path, options) {
  return (await ask(path, options)).json();
}

async function wordsOf(response) {
  try {
    const { error } = await response.json();
    return typeof error === "string" ? error : error.message;
  } catch {
    return `the server answered with status ${response.status}`;
  }
}

// Server-sent events of an answer, as {name, data}, one after the other (https://html.spec.whatwg.org/#server-sent-events).
export async function* eventsOf(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let event = { name: "message", data: [] };
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const lines = (rest + value).split(/\r\n|\n|\r(?!$)/);
      rest = lines.pop();
      for (const line of lines) {
        if (line === "") {
          if (event.data.length) yield { name: event.name, data: event.data.join("\n") };
          event = { name: "message", data: [] };
        } else if (line.startsWith("data:")) {
          event.data.push(line.slice(line[5] === " " ? 6 : 5));
        } else if (line.startsWith("event:")) {
          event.name = line.slice(6).trim();
        }
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
