// The playground: a conversation with the model, its controls beside it. Kept while other views are looked at, and nowhere else.

import { button, element, newId } from "./elements.js";
import { SamplingForm } from "./sampling_form.js";
import { Turn } from "./turn.js";

const kept = new Map(); // a model's, by its name

export function playground({ model }) {
  if (!kept.has(model.id)) kept.set(model.id, new Playground(model));
  return { node: kept.get(model.id).node };
}

class Playground {
  constructor(model) {
    this.model = model;
    this.turns = [];
    this.controls = new SamplingForm(model);
    this.text = element("textarea", { id: newId("field"), rows: 2, placeholder: "Say something to the model", onkeydown: (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        this.#send();
      }
    } });
    this.sendButton = button("Send", () => {}, { type: "submit", class: "main" });
    this.stopButton = button("Stop", () => this.turns.at(-1)?.stop());
    this.backButton = button("Take back", () => this.#takeBack(), { class: "quiet" });
    this.clearButton = button("New conversation", () => this.#clear(), { class: "quiet" });
    this.trouble = element("p", { class: "trouble", role: "alert" });
    this.list = element("div", { class: "turns" });
    this.empty = element("p", { class: "empty" },
      `Talk to ${model.id}. Every answer can be computed again, and comes out the same to the last byte.`);
    const composer = element("form", { class: "composer card" },
      element("label", { for: this.text.id, class: "unseen" }, "Your message"), this.text, this.trouble,
      element("div", { class: "composer-actions" }, this.sendButton, this.stopButton,
        element("span", { class: "gap" }), this.backButton, this.clearButton));
    composer.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    this.node = element("div", { class: "playground" },
      element("section", { class: "conversation", "aria-label": "Conversation" }, element("h1", { class: "unseen" }, "Playground"),
        this.empty, this.list, composer),
      element("aside", { class: "card", "aria-label": "Controls" }, this.controls.node));
    this.#update();
  }

  get isRunning() {
    return this.turns.at(-1)?.isRunning ?? false;
  }

  #send() {
    const content = this.text.value;
    if (this.isRunning || content.trim() === "") return;
    if (this.#begin([{ role: "user", content }], content)) this.text.value = "";
  }

  // A turn that says ``added``; false where the controls do not add up to a request.
  #begin(added, typed = "") {
    this.trouble.textContent = "";
    let fields;
    try {
      fields = this.controls.fields();
    } catch (error) {
      this.trouble.textContent = error.message;
      return false;
    }
    const turn = new Turn({
      model: this.model.id,
      messages: [...this.#history(), ...added],
      added,
      fields,
      onResults: (results) => this.#begin(results),
      onChange: () => this.#update(),
    });
    turn.typed = typed;
    this.turns.push(turn);
    this.list.append(turn.node);
    turn.run();
    this.node.querySelector(".composer").scrollIntoView({ block: "end" });
    return true;
  }

  #history() {
    const last = this.turns.findLast((turn) => turn.history() !== null);
    if (last) return last.history();
    const system = this.controls.system.value;
    return system.trim() === "" ? [] : [{ role: "system", content: system }];
  }

  #takeBack() {
    const turn = this.turns.pop();
    turn.stop();
    turn.node.remove();
    this.text.value ||= turn.typed;
    this.turns.at(-1)?.askForResults();
    this.text.focus();
    this.#update();
  }

  #clear() {
    this.turns.at(-1)?.stop();
    this.turns = [];
    this.list.replaceChildren();
    this.text.focus();
    this.#update();
  }

  #update() {
    this.empty.hidden = this.turns.length > 0;
    this.sendButton.disabled = this.isRunning;
    this.stopButton.hidden = !this.isRunning;
    this.backButton.hidden = this.clearButton.hidden = this.turns.length === 0;
  }
}
