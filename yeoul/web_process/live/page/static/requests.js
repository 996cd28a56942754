// What runs, what waits and why, and what there was; a request's name opens its story.

import { button, element, field, select } from "./elements.js";
import { feed, hasEnded, listen } from "./feed.js";
import { requestStory } from "./request_story.js";
import { askJson } from "./server.js";
import { clock, count, number, seconds } from "./words.js";

const NUM_ROWS = 100;
const LIVE = ["waiting", "running"];
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
    this.state = select(STATES, "", { onchange: () => this.#choose() });
    this.body = element("tbody");
    this.trouble = element("p", { class: "trouble", role: "alert" });
    this.others = element("p", { class: "others" });
    this.empty = element("p", { class: "empty" }, "There is no such request. They appear here as they come.");
    this.olderButton = button("Older ones", () => this.#loadOlder(), { hidden: true });
    this.rows = new Map();
    this.older = [];
    this.olderThan = null;
    const heads = ["Came", "Request", "State", "Route", "Prompt", "Answer", "First token", "Time", "Why"];
    this.node = element("div", { class: "requests" }, element("h1", { class: "unseen" }, "Requests"),
      element("div", { class: "requests-filter" }, field("Show", this.state), this.others), this.trouble,
      element("div", { class: "card table-frame", tabindex: 0, role: "region", "aria-label": "Requests" },
        element("table", {}, element("caption", { class: "unseen" }, "Requests, those that came last first"),
          element("thead", {}, element("tr", {}, heads.map((head) => element("th", { scope: "col" }, head)))), this.body), this.empty),
      this.olderButton);
    this.stopListening = listen({ requests: () => this.#show(), topology: () => this.#show() });
    this.#show();
  }

  close() {
    this.stopListening();
  }

  // What lives is followed; what ended is asked for, where only some are wanted of which the newest may be older than all that is told.
  #choose() {
    this.older = [];
    this.olderThan = null;
    this.trouble.textContent = "";
    this.#show();
    if (!["", ...LIVE].includes(this.state.value)) this.#loadOlder();
  }

  async #loadOlder() {
    const asked = this.state.value;
    const query = new URLSearchParams({ limit: NUM_ROWS });
    if (asked) query.set("state", asked);
    const before = this.older.at(-1)?.id ?? (asked ? null : feed.olderThan);
    if (before) query.set("before", before);
    try {
      const { data, has_more: hasMore } = await askJson(`debug/requests?${query}`);
      if (asked !== this.state.value) return;
      this.older.push(...data.filter(hasEnded));
      this.olderThan = hasMore ? data.at(-1).id : null;
      this.#show();
    } catch (error) {
      this.trouble.textContent = error.message;
    }
  }

  #show() {
    if (document.hidden) return;
    const wanted = this.state.value;
    const known = [...feed.requests.values()].filter((one) => wanted === "" || one.state === wanted);
    const all = [...known, ...this.older.filter((one) => !feed.requests.has(one.id))].sort((one, other) => other.arrived - one.arrived);
    const now = feed.topology?.at ?? 0;
    const rows = new Map(all.map((one) => [one.id, this.rows.get(one.id)?.one === one ? this.rows.get(one.id) : new Row(one)]));
    const focused = document.activeElement?.closest?.("tr")?.dataset.id;
    const isOther = rows.size !== this.rows.size || ![...rows].every(([id, row]) => this.rows.get(id) === row);
    this.rows = rows;
    if (isOther) this.body.replaceChildren(...[...rows.values()].map((row) => row.node));
    if (isOther && focused && !this.body.contains(document.activeElement)) this.body.querySelector(`[data-id="${CSS.escape(focused)}"] a`)?.focus();
    for (const row of rows.values()) row.tell(now);
    this.empty.hidden = all.length > 0;
    const isBegun = this.older.length > 0 || wanted !== "";
    this.olderButton.hidden = LIVE.includes(wanted) || (isBegun ? this.olderThan === null : feed.olderThan === null);
    const numShown = known.filter((one) => one.state === "waiting").length;
    const numWaiting = feed.topology?.engine.num_waiting ?? 0;
    this.others.textContent = numShown > 0 && numWaiting > numShown && ["", "waiting"].includes(wanted)
      ? `Of ${number(numWaiting)} that wait the first ${number(numShown)} are shown.` : "";
  }
}

class Row {
  constructor(one) {
    this.one = one;
    this.time = element("td");
    const cached = one.num_cached_tokens ? ` (${number(one.num_cached_tokens)} known)` : "";
    this.node = element("tr", { "data-id": one.id },
      element("td", {}, clock(one.arrived)), element("th", { scope: "row" }, linkTo(one.id)), element("td", {}, stateMark(one.state)),
      element("td", {}, one.route), element("td", {}, number(one.num_prompt_tokens), cached), element("td", {}, number(one.num_output_tokens)),
      element("td", {}, one.ttft_seconds === null ? "–" : seconds(one.ttft_seconds)), this.time,
      element("td", { class: "why" }, whyOf(one)));
  }

  // Of one that lives time goes by, by the server's clock.
  tell(now) {
    const words = seconds(hasEnded(this.one) ? this.one.seconds : Math.max(this.one.seconds, now - this.one.arrived));
    if (this.time.textContent !== words) this.time.textContent = words;
  }
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
