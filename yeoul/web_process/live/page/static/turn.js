// One turn of a conversation: what was said, the samples that answer it, and whether they come out the same once more.

import { Answer, difference } from "./answer_reader.js";
import { button, element, field, newId } from "./elements.js";
import { SampleView } from "./sample_view.js";
import { ask, eventsOf, ServerError } from "./server.js";
import { count } from "./words.js";

export class Turn {
  // messages: the conversation so far, those of this turn (added) at its end; fields: how its answers are made.
  constructor({ model, messages, added, fields, onResults, onChange }) {
    this.messages = messages;
    this.body = { model, messages, ...fields, stream: true, stream_options: { include_usage: true } };
    this.chosen = 0;
    this.answer = null;
    this.numAgain = 0;
    this.abort = null;
    this.onResults = onResults;
    this.onChange = onChange;
    this.samples = element("div", { class: "samples" });
    this.trouble = element("p", { class: "trouble", role: "alert" });
    this.below = element("div", { class: "turn-actions" });
    this.node = element("section", { class: "turn" }, added.map(told), this.samples, this.trouble, this.below);
  }

  get isRunning() {
    return this.abort !== null;
  }

  // What the conversation goes on with; null as long as there is nothing.
  history() {
    if (this.answer === null || this.isRunning) return null;
    return [...this.messages, this.answer.choices[this.chosen].message()];
  }

  stop() {
    this.abort?.abort();
  }

  async run() {
    const hasTitles = this.body.n > 1;
    const answer = new Answer(this.body.n);
    const views = answer.choices.map((choice, index) =>
      new SampleView(choice, hasTitles ? `Sample ${index + 1}` : "", this.body.logprobs === true));
    this.samples.replaceChildren(...views.map((view) => view.node));
    const isWhole = await this.#read(this.body, answer, () => views.forEach((view) => view.update()));
    if (answer.id !== null) this.answer = answer;
    views.forEach((view) => view.end(numTokensOf(answer, view.choice), isWhole ? "" : "stopped here"));
    this.views = views;
    if (this.answer !== null) this.#offer(isWhole);
    this.onChange();
  }

  // The stream of a request, into answer; false where it was stopped or failed.
  async #read(body, answer, draw) {
    this.abort = new AbortController();
    this.trouble.textContent = "";
    this.onChange();
    let isDrawn = true;
    try {
      const response = await ask("v1/chat/completions", { method: "POST", body, signal: this.abort.signal });
      for await (const event of eventsOf(response)) {
        if (event.data === "[DONE]") return true;
        const chunk = JSON.parse(event.data);
        if (chunk.error) throw new ServerError(chunk.error.message, 0);
        answer.take(chunk);
        if (isDrawn) {
          isDrawn = false;
          requestAnimationFrame(() => {
            isDrawn = true;
            draw();
          });
        }
      }
      throw new ServerError("the connection was lost before the answer was complete", 0);
    } catch (error) {
      if (error.name !== "AbortError") this.trouble.textContent = error instanceof ServerError ? error.message : String(error);
      return false;
    } finally {
      this.abort = null;
      draw();
    }
  }

  #offer(isWhole) {
    this.below.replaceChildren();
    if (isWhole) {
      this.againButton = button("Again", () => this.again(), { title: "Computes the answer once more, and compares every byte" });
      this.below.append(this.againButton, element("span", { class: "facts" }, `seed ${this.answer.seed}`));
    }
    if (this.views.length > 1) this.#offerChoice();
    this.askForResults();
  }

  #offerChoice() {
    const name = newId("sample");
    this.views.forEach((view, index) => {
      const radio = element("input", { type: "radio", name, id: newId("field"), checked: index === this.chosen, onchange: () => {
        this.chosen = index;
        this.askForResults();
        this.onChange();
      } });
      view.node.append(element("p", { class: "tick" }, radio, element("label", { for: radio.id }, "Go on with this one")));
    });
  }

  // Where the sample calls tools, somebody has to say what they gave.
  askForResults() {
    this.results?.remove();
    if (this.answer === null || this.isRunning) return;
    const { calls } = this.answer.choices[this.chosen];
    if (!calls.length) return;
    const inputs = calls.map((call) => element("textarea", { rows: 2, class: "code", "data-id": call.id }));
    this.results = element("form", { class: "results card" },
      inputs.map((input, index) => field(`What ${calls[index].name} gives`, input)),
      button("Send the results", () => {}, { type: "submit", class: "main" }));
    this.results.addEventListener("submit", (event) => {
      event.preventDefault();
      this.results.remove();
      this.onResults(inputs.map((input) => ({ role: "tool", tool_call_id: input.dataset.id, content: input.value })));
    });
    this.node.append(this.results);
  }

  // The same request once more, with the seed that the first one had.
  async again() {
    const body = { ...this.body, seed: this.answer.seed };
    const answer = new Answer(body.n);
    this.againButton.disabled = true;
    this.views.forEach((view) => view.judge("computing it once more …", null));
    const isWhole = await this.#read(body, answer, () => {});
    this.againButton.disabled = false;
    if (isWhole) this.numAgain += 1;
    this.views.forEach((view, index) => {
      if (!isWhole) view.judge("", null);
      else this.#judge(view, answer.choices[index]);
    });
    this.onChange();
  }

  #judge(view, choice) {
    const differs = difference(view.choice, choice);
    const times = this.numAgain === 1 ? "" : ` (${count(this.numAgain, "time")})`;
    if (differs !== null) {
      view.judge(`not the same: ${differs}`, false);
      return;
    }
    const what = view.choice.tokens.length ? ", and every probability to the last bit" : "";
    view.judge(`the same, byte for byte: ${count(view.choice.numBytes(), "byte")}${what}${times}`, true);
  }
}

function numTokensOf(answer, choice) {
  if (choice.tokens.length) return choice.tokens.length;
  return answer.choices.length === 1 ? (answer.usage?.completion_tokens ?? 0) : 0;
}

function told(message) {
  const who = message.role === "tool" ? "The tool" : "You";
  return element("div", { class: `said said-${message.role}` }, element("h2", { class: "unseen" }, who),
    element("div", { class: "text" }, message.content));
}
