// A text token by token: how likely each was, and what else might have stood there, on hover, by touch and by arrow keys.

import { element, newId } from "./elements.js";
import { percent } from "./words.js";

// Chances below which a token is marked, the strongest mark last.
const SURPRISES = [0.5, 0.2, 0.05];

export class TokenText {
  constructor() {
    this.text = "";
    this.tokens = [];
    this.chosen = -1;
    this.line = element("div", {
      class: "text tokens", tabindex: 0, role: "group", "aria-label": "Answer, token by token: arrow keys tell how likely each was",
      onpointermove: (event) => this.#choose(spanAt(event)),
      onpointerdown: (event) => this.#choose(spanAt(event)),
      onpointerleave: () => this.#choose(null),
      onkeydown: (event) => this.#onKey(event),
      onblur: () => this.#choose(null),
    });
    this.details = element("div", { class: "token-details", id: newId("token"), role: "status", hidden: true });
    this.node = element("div", { class: "token-text" }, this.line, this.details);
  }

  update(tokens) {
    for (let place = this.tokens.length; place < tokens.length; place += 1) {
      const token = tokens[place];
      const level = SURPRISES.filter((chance) => Math.exp(token.logprob) < chance).length;
      this.line.append(element("span", { "data-place": place, class: level ? `surprise-${level}` : null }, token.text));
      this.tokens.push(token);
      this.text += token.text;
    }
  }

  // Tokens behind the text, which only say that it ends.
  markEnd(length) {
    let end = 0;
    for (const [place, token] of this.tokens.entries()) {
      end += token.text.length;
      if (end > length) this.line.children[place].classList.add("beyond");
    }
  }

  #onKey(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
    if (step === undefined) {
      if (event.key === "Escape") this.#choose(null);
      return;
    }
    event.preventDefault();
    const place = Math.min(this.tokens.length - 1, Math.max(0, this.chosen + step));
    this.#choose(this.line.children[place]);
  }

  #choose(span) {
    const place = span === null || span === undefined ? -1 : Number(span.dataset.place);
    if (place === this.chosen) return;
    this.line.children[this.chosen]?.classList.remove("chosen");
    this.chosen = place;
    this.details.hidden = place < 0;
    if (place < 0) return;
    span.classList.add("chosen");
    this.details.replaceChildren(...this.#told(this.tokens[place]));
    const below = span.offsetTop + span.offsetHeight + 6;
    this.details.style.top = `${below}px`;
    this.details.style.left = `${Math.max(0, Math.min(span.offsetLeft, this.node.clientWidth - this.details.offsetWidth))}px`;
  }

  #told(token) {
    const isAmong = token.others.some((other) => other.text === token.text && other.logprob === token.logprob);
    const rows = isAmong ? token.others : [...token.others, token];
    return rows.map((row) => {
      const isChosen = row.logprob === token.logprob && row.text === token.text;
      const chance = Math.exp(row.logprob);
      const bar = element("meter", { min: 0, max: 1, value: chance, "aria-hidden": "true" });
      return element("div", { class: isChosen ? "row is-chosen" : "row" }, element("code", {}, visible(row.text)), bar,
        element("span", {}, percent(chance)), isChosen ? element("span", { class: "unseen" }, "chosen") : null);
    });
  }
}

function spanAt(event) {
  return event.target.closest("[data-place]");
}

// Blanks and line ends, which would not be seen.
function visible(text) {
  return text === "" ? "(part of a character)" : text.replaceAll(" ", "␣").replaceAll("\n", "⏎").replaceAll("\t", "⇥");
}
