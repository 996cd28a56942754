// What the chunks of a chat's stream add up to. Pure: knows no page and no server.

export class Answer {
  constructor(numChoices) {
    this.choices = Array.from({ length: numChoices }, () => new Choice());
    this.seed = null;
    this.id = null;
    this.usage = null;
  }

  take(chunk) {
    this.id = chunk.id ?? this.id;
    this.seed = chunk.seed ?? this.seed;
    this.usage = chunk.usage ?? this.usage;
    for (const part of chunk.choices) this.choices[part.index].take(part);
  }
}

export class Choice {
  constructor() {
    this.text = "";
    this.reasoning = "";
    this.calls = [];
    this.tokens = []; // {text, logprob, others: [{text, logprob}]}
    this.finishReason = null;
    this.decoder = new TextDecoder();
  }

  take({ delta, logprobs, finish_reason: finishReason }) {
    this.text += delta.content ?? "";
    this.reasoning += delta.reasoning_content ?? "";
    for (const call of delta.tool_calls ?? []) {
      const known = (this.calls[call.index] ??= { id: "", type: call.type, name: "", arguments: "" });
      known.id ||= call.id ?? "";
      known.name += (call.function ?? call.custom)?.name ?? "";
      known.arguments += call.function?.arguments ?? call.custom?.input ?? "";
    }
    for (const token of logprobs?.content ?? []) {
      this.tokens.push({
        // A token may be a part of a character, which then stands where it is whole.
        text: this.decoder.decode(Uint8Array.from(token.bytes), { stream: true }),
        logprob: token.logprob,
        others: token.top_logprobs.map((other) => ({ text: other.token, logprob: other.logprob })),
      });
    }
    this.finishReason = finishReason ?? this.finishReason;
  }

  // As a message of the conversation that goes on with it.
  message() {
    const message = { role: "assistant", content: this.text };
    if (this.calls.length) {
      message.tool_calls = this.calls.map((call) => ({
        id: call.id,
        type: call.type,
        ...(call.type === "custom"
          ? { custom: { name: call.name, input: call.arguments } }
          : { function: { name: call.name, arguments: call.arguments } }),
      }));
    }
    return message;
  }

  // All that the model has made, for comparing; ids of calls are the server's, and differ.
  written() {
    return JSON.stringify({
      text: this.text,
      reasoning: this.reasoning,
      calls: this.calls.map((call) => [call.name, call.arguments]),
      tokens: this.tokens.map((token) => [token.text, token.logprob, token.others.map((other) => [other.text, other.logprob])]),
      finishReason: this.finishReason,
    });
  }

  numBytes() {
    const calls = this.calls.map((call) => call.name + call.arguments).join("");
    return new TextEncoder().encode(this.reasoning + this.text + calls).length;
  }
}

// Where two choices first differ, in words; null where they are the same to the last bit.
export function difference(first, second) {
  if (first.written() === second.written()) return null;
  for (const [what, one, other] of [["the thoughts", first.reasoning, second.reasoning], ["the text", first.text, second.text]]) {
    const at = firstDifference(new TextEncoder().encode(one), new TextEncoder().encode(other));
    if (at !== null) return `${what} from byte ${at + 1} on`;
  }
  if (JSON.stringify(first.calls.map((call) => [call.name, call.arguments]))
    !== JSON.stringify(second.calls.map((call) => [call.name, call.arguments]))) return "the calls";
  return first.finishReason === second.finishReason ? "the probabilities" : "how it ended";
}

function firstDifference(one, other) {
  const length = Math.max(one.length, other.length);
  for (let at = 0; at < length; at += 1) if (one[at] !== other[at]) return at;
  return null;
}
