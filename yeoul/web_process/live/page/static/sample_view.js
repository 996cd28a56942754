// One sample of an answer as it grows: thoughts, text, calls, and what its tokens might have been. Knows no server.

import { element } from "./elements.js";
import { TokenText } from "./token_text.js";
import { count, seconds } from "./words.js";

const ENDINGS = { stop: "", length: "cut off at the most tokens", tool_calls: "calls tools", error: "failed", abort: "ended" };

export class SampleView {
  constructor(choice, title, hasProbabilities) {
    this.choice = choice;
    this.start = performance.now();
    this.firstAt = null;
    this.lastAt = null;
    this.tokens = hasProbabilities ? new TokenText() : null;
    this.plain = element("div", { class: "text" });
    this.thoughts = element("details", { class: "thoughts", open: true, hidden: true },
      element("summary", {}, "Thoughts"), element("div", { class: "text" }));
    this.calls = element("div", { class: "calls" });
    this.facts = element("p", { class: "facts" });
    this.verdict = element("p", { class: "verdict", role: "status" });
    this.node = element("article", { class: "sample", "aria-label": title, "aria-busy": "true" },
      title ? element("h3", {}, title) : null, this.thoughts, this.tokens?.node ?? null, this.plain, this.calls,
      this.facts, this.verdict);
  }

  // Draws what has come; cheap, since text is only added.
  update() {
    const { choice } = this;
    if (this.firstAt === null && (choice.text || choice.reasoning || choice.calls.length || choice.tokens.length)) {
      this.firstAt = performance.now();
    }
    this.lastAt = performance.now();
    this.thoughts.hidden = choice.reasoning === "";
    append(this.thoughts.lastChild, choice.reasoning);
    this.tokens?.update(choice.tokens);
    const areTokensTheText = this.tokens !== null && this.tokens.text.startsWith(choice.text) && choice.reasoning === "";
    if (this.tokens) this.tokens.node.hidden = !areTokensTheText || choice.text === "";
    this.plain.hidden = areTokensTheText || choice.text === "";
    if (!this.plain.hidden) append(this.plain, choice.text);
    this.calls.replaceChildren(...choice.calls.map((call) =>
      element("div", { class: "call" }, element("strong", {}, call.name), " ", element("code", {}, call.arguments))));
  }

  end(numTokens, endedBy = "") {
    this.node.setAttribute("aria-busy", "false");
    if (this.tokens && this.tokens.node.hidden && this.choice.tokens.length) {
      // The tokens are not what is shown above: thoughts, calls and marks are among them.
      this.tokens.node.hidden = false;
      this.calls.after(element("details", {}, element("summary", {}, "All tokens, as they were chosen"), this.tokens.node));
    }
    if (!this.tokens?.node.hidden && this.choice.reasoning === "") this.tokens?.markEnd(this.choice.text.length);
    const first = this.firstAt === null ? null : (this.firstAt - this.start) / 1000;
    const rest = this.firstAt === null ? 0 : (this.lastAt - this.firstAt) / 1000;
    const facts = [first === null ? "no token" : `first token ${seconds(first)}`];
    if (numTokens) facts.push(count(numTokens, "token"));
    if (numTokens > 1 && rest > 0) facts.push(`${((numTokens - 1) / rest).toFixed(0)} tokens/s`);
    facts.push(count(this.choice.numBytes(), "byte"));
    const ending = endedBy || (ENDINGS[this.choice.finishReason] ?? this.choice.finishReason ?? "");
    if (ending) facts.push(ending);
    this.facts.textContent = facts.join(" · ");
  }

  judge(text, isSame) {
    this.verdict.className = `verdict ${isSame === null ? "" : isSame ? "same" : "differs"}`;
    this.verdict.textContent = text;
  }
}

// Lets a node show the text that it has so far, without drawing what is there once more.
function append(node, text) {
  const length = Number(node.dataset.length ?? 0);
  if (text.length > length) node.append(text.slice(length));
  node.dataset.length = text.length;
}
