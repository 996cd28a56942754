// What runs, what waits and why, and what there was; a request's name opens its story.

import { button, element, field, select } from "./elements.js";
import { listen } from "./feed.js";
import { requestStory } from "./request_story.js";
import { askJson } from "./server.js";
import { clock, count, number, seconds } from "./words.js";

const NUM_ROWS = 100;
const STATES = [["", "All"], ["running", "Running"], ["waiting", "Waiting"], ["finished", "Finished"], ["aborted", "Aborted"], ["failed", "Failed"]];

export function requests({ rest }) {
  return rest[0] ? requestStory(rest.join("/")) : new RequestList();
}

// By the request's own id, without what makes it unique; where there are many, by its beginning.
export function linkTo(id, isShort = false) {
  const name = id.split("~")[0];
  return element("a", { href: `#/requests/${encodeURIComponent(id)}`, class: "code", title: id },
    isShort && name.length > 18 ? `${name.slice(0, 16)}…` : name);
}

export function stateMark(state) {
  return element("span", { class: `state state-${state}` }, state);
}

class RequestList {
  constructor() {
    this.state = select(STATES, "", { onchange: () => this.#load() });
    this.rows = element("tbody");
    this.trouble = element("p", { class: "trouble", role: "alert" });
    this.empty = element("p", { class: "empty" }, "There is no such request. They appear here as they come.");
    this.olderButton = button("Older ones", () => this.#loadOlder(), { hidden: true });
    this.older = [];
    const heads = ["Came", "Request", "State", "Route", "Prompt", "Answer", "First token", "Time", "Why"];
    this.node = element("div", { class: "requests" }, element("h1", { class: "unseen" }, "Requests"),
      element("div", { class: "requests-filter" }, field("Show", this.state)), this.trouble,
      element("div", { class: "card table-frame", tabindex: 0, role: "region", "aria-label": "Requests" },
        element("table", {}, element("caption", { class: "unseen" }, "Requests, those that came last first"),
          element("thead", {}, element("tr", {}, heads.map((head) => element("th", { scope: "col" }, head)))), this.rows), this.empty),
      this.olderButton);
    // Once a second, with what else the server tells.
    this.stopListening = listen({ topology: () => this.#load() });
    this.#load();
  }

  close() {
    this.stopListening();
  }

  async #ask(before) {
    const query = new URLSearchParams({ limit: NUM_ROWS });
    if (this.state.value) query.set("state", this.state.value);
    if (before) query.set("before", before);
    return askJson(`debug/requests?${query}`);
  }

  async #load() {
    if (this.isLoading || document.hidden) return;
    this.isLoading = true;
    const asked = this.state.value;
    try {
      const { data, has_more: hasMore } = await this.#ask();
      if (asked !== this.shownState) this.older = [];
      this.shownState = asked;
      this.trouble.textContent = "";
      this.newest = data;
      if (!this.older.length) this.olderButton.hidden = !hasMore;
      this.#show();
    } catch (error) {
      this.trouble.textContent = error.message;
    } finally {
      this.isLoading = false;
      if (asked !== this.state.value) this.#load();
    }
  }

  async #loadOlder() {
    const last = (this.older.at(-1) ?? this.newest.at(-1)).id;
    try {
      const { data, has_more: hasMore } = await this.#ask(last);
      this.older.push(...data);
      this.olderButton.hidden = !hasMore;
      this.#show();
    } catch (error) {
      this.trouble.textContent = error.message;
    }
  }

  #show() {
    const known = new Set(this.newest.map((one) => one.id));
    const all = [...this.newest, ...this.older.filter((one) => !known.has(one.id))];
    this.empty.hidden = all.length > 0;
    const focused = document.activeElement?.closest?.("tr")?.dataset.id;
    this.rows.replaceChildren(...all.map((one) => row(one)));
    if (focused) this.rows.querySelector(`[data-id="${CSS.escape(focused)}"] a`)?.focus();
  }
}

function row(one) {
  const cached = one.num_cached_tokens ? ` (${number(one.num_cached_tokens)} known)` : "";
  return element("tr", { "data-id": one.id },
    element("td", {}, clock(one.arrived)), element("th", { scope: "row" }, linkTo(one.id)), element("td", {}, stateMark(one.state)),
    element("td", {}, one.route), element("td", {}, number(one.num_prompt_tokens), cached), element("td", {}, number(one.num_output_tokens)),
    element("td", {}, one.ttft_seconds === null ? "–" : seconds(one.ttft_seconds)), element("td", {}, seconds(one.seconds)),
    element("td", { class: "why" }, whyOf(one)));
}

// Why it waits, or how it ended.
export function whyOf(one) {
  if (one.state === "waiting") {
    const place = one.place === null ? "" : `place ${one.place}`;
    const wait = one.expected_wait_seconds === null ? "" : `, about ${seconds(one.expected_wait_seconds)} to go`;
    return [`${place}${wait}`, one.why_it_waits].filter(Boolean).join(": ");
  }
  if (one.finish_reason === "length") return `cut off at ${count(one.num_output_tokens, "token")}`;
  return "";
}
