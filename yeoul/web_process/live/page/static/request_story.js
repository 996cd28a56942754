// One request, one page: what its time went to, what happened where, its steps and with whom it shared them.

import { button, drawing, element } from "./elements.js";
import { listen } from "./feed.js";
import { linkTo, stateMark, whyOf } from "./requests.js";
import { ask, askJson } from "./server.js";
import { count, number, percent, seconds } from "./words.js";

const NAMES = {
  reading: "reading it", tokenizing: "making it tokens", queued: "queued", loading: "kept blocks were read", cold_prefix: "a prefix that was no longer known",
  own_prefill: "its own prompt", prefill_of_others: "prompts of others", own_decode: "its own answer", preempted: "preempted", recovery: "a recovery",
  between_steps: "between steps", slow_reader: "a slow reader",
};

export function requestStory(id) {
  return new RequestStory(id);
}

class RequestStory {
  constructor(id) {
    this.path = `debug/requests/${encodeURIComponent(id)}`;
    this.trouble = element("p", { class: "trouble", role: "alert" });
    this.body = element("div", { class: "story" });
    this.abortButton = button("Abort it", () => this.#abort(), { hidden: true });
    const trace = element("a", { href: `${this.path}/trace`, download: `${id}.trace.json`, title: "For ui.perfetto.dev" }, "Trace");
    this.node = element("div", { class: "requests" }, element("p", {}, element("a", { href: "#/requests" }, "All requests")),
      element("header", { class: "story-head" }, element("h1", { class: "code" }, id.split("~")[0]), element("div", {}, trace, " ", this.abortButton)), this.trouble, this.body);
    this.isLive = true;
    this.stopListening = listen({ topology: () => this.#load() });
    this.#load();
  }

  close() {
    this.stopListening();
  }

  async #load() {
    if (!this.isLive || this.isLoading || document.hidden) return;
    this.isLoading = true;
    try {
      const story = await askJson(this.path);
      this.isLive = story.state === "running" || story.state === "waiting";
      this.trouble.textContent = "";
      this.abortButton.hidden = !this.isLive;
      this.#show(story);
    } catch (error) {
      this.trouble.textContent = error.message;
      this.isLive = error.status === 0;
    } finally {
      this.isLoading = false;
    }
  }

  #show(story) {
    // What somebody reads or copies stays as it is while nothing of it changes.
    const parts = {
      facts: () => factsOf(story),
      causes: () => causesOf(story),
      steps: () => stepsOf(story),
      timeline: () => timelineOf(story),
      again: () => againOf(story),
    };
    const digests = {
      facts: [story.state, story.seconds, story.num_output_tokens, story.why_it_waits], causes: story.causes, steps: story.steps,
      timeline: story.timeline, again: [story.curl, story.python],
    };
    this.shown ??= {};
    for (const [name, make] of Object.entries(parts)) {
      const digest = JSON.stringify(digests[name]);
      if (this.shown[name]?.digest === digest) continue;
      const node = make();
      if (this.shown[name]) this.shown[name].node.replaceWith(node);
      else this.body.append(node);
      this.shown[name] = { digest, node };
    }
  }

  // The first click asks, the second one means it.
  async #abort() {
    if (!this.isAsked) {
      this.isAsked = true;
      this.abortButton.textContent = "Abort it: sure?";
      return;
    }
    try {
      await ask(`${this.path}/abort`, { method: "POST" });
    } catch (error) {
      this.trouble.textContent = error.message;
    }
  }
}

function card(title, ...children) {
  return element("section", { class: "card", "aria-label": title }, element("h2", {}, title), ...children);
}

function factsOf(story) {
  const facts = [
    ["State", stateMark(story.state)], ["Came by", story.route], ["Model", story.model],
    ["Prompt", `${count(story.num_prompt_tokens, "token")}${story.num_cached_tokens ? `, ${number(story.num_cached_tokens)} of them known` : ""}`],
    ["Answer", count(story.num_output_tokens, "token")],
    ["First token", story.ttft_seconds === null ? "–" : `after ${seconds(story.ttft_seconds)}`],
    ["Time", seconds(story.seconds)],
    ["Steps", number(story.num_steps ?? story.steps.length)],
  ];
  const why = story.error || whyOf(story);
  if (why) facts.push([story.error ? "Why it failed" : "Why", why]);
  return element("dl", { class: "engine-facts" },
    facts.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))));
}

function causesOf(story) {
  const whole = story.causes.reduce((sum, cause) => sum + cause.seconds, 0) || 1;
  const bar = drawing("svg", { class: "causes-bar", viewBox: "0 0 1000 28", preserveAspectRatio: "none", "aria-hidden": "true" });
  let x = 0;
  for (const cause of story.causes) {
    const width = (cause.seconds / whole) * 1000;
    bar.append(drawing("rect", { class: `cause cause-${cause.cause}`, x, y: 0, width: Math.max(0, width - 1.5), height: 28 },
      drawing("title", {}, `${NAMES[cause.cause] ?? cause.cause}: ${seconds(cause.seconds)}`)));
    x += width;
  }
  const rows = story.causes.map((cause) => element("li", {},
    element("span", { class: `swatch cause-${cause.cause}` }),
    element("strong", {}, NAMES[cause.cause] ?? cause.cause), " ", element("span", { class: "amount" }, `${seconds(cause.seconds)}, ${percent(cause.seconds / whole)}`),
    element("span", { class: "why" }, cause.words),
    cause.because.length ? element("span", { class: "because" }, "Because of ", cause.because.slice(0, 6).flatMap((id, index) => [index ? ", " : "", linkTo(id, true)])) : null));
  return card("What its time went to", bar, element("ul", { class: "causes" }, rows));
}

// Each step a bar as wide as it took: what it computed of this request, and of others.
function stepsOf(story) {
  const { steps } = story;
  if (!steps.length) return card("Its steps", element("p", { class: "empty" }, "No step has computed anything of it yet."));
  const begin = steps[0].at;
  const end = steps.at(-1).at + steps.at(-1).seconds;
  const most = Math.max(...steps.map((step) => step.num_tokens_own + step.num_tokens_others));
  const picture = drawing("svg", { class: "steps", viewBox: "0 0 1000 120", preserveAspectRatio: "none", role: "img", "aria-label":
    `${count(steps.length, "step")} in ${seconds(end - begin)}, with at most ${count(most, "token")}` });
  for (const step of steps) {
    const x = ((step.at - begin) / (end - begin || 1)) * 1000;
    const width = Math.max(1, (step.seconds / (end - begin || 1)) * 1000 - 0.6);
    const heightOf = (tokens) => (tokens ? Math.max(2, (Math.log2(1 + tokens) / Math.log2(1 + most)) * 116) : 0);
    const whole = heightOf(step.num_tokens_own + step.num_tokens_others);
    const own = heightOf(step.num_tokens_own);
    picture.append(drawing("g", {},
      drawing("title", {}, `step ${step.number}: ${seconds(step.seconds)}, ${count(step.num_tokens_own, "token")} of this request, ${number(step.num_tokens_others)} of others`),
      drawing("rect", { class: "of-others", x, y: 120 - whole, width, height: whole }),
      drawing("rect", { class: "own", x, y: 120 - own, width, height: own })));
  }
  const others = new Map();
  for (const step of steps) for (const id of step.shared_with) others.set(id, (others.get(id) ?? 0) + 1);
  const shared = [...others].toSorted((one, other) => other[1] - one[1]).slice(0, 12);
  return card("Its steps", element("p", { class: "facts" }, element("span", { class: "swatch own" }), "tokens of this request ",
    element("span", { class: "swatch of-others" }), "of others; the height grows with the logarithm, the width is the time"), picture,
    shared.length ? element("p", { class: "because" }, "Shared with ", shared.flatMap(([id, times], index) =>
      [index ? ", " : "", linkTo(id, true), ` (${count(times, "step")})`])) : element("p", { class: "facts" }, "It was alone in all of them."));
}

function timelineOf(story) {
  const rows = story.timeline.map((moment) => element("tr", {},
    element("td", {}, `+${seconds(Math.max(0, moment.at - story.arrived))}`), element("td", {}, element("span", { class: "process-name" }, moment.process)),
    element("th", { scope: "row" }, moment.what), element("td", {}, moment.seconds === null ? "" : seconds(moment.seconds))));
  const heads = ["When", "Process", "What", "Took"];
  return card("What happened", element("div", { class: "table-frame", tabindex: 0, role: "region", "aria-label": "Timeline" },
    element("table", {}, element("thead", {}, element("tr", {}, heads.map((head) => element("th", { scope: "col" }, head)))), element("tbody", {}, rows))));
}

function againOf(story) {
  return card("Send it again", copyable("For a shell", story.curl), copyable("In Python", story.python));
}

function copyable(title, text) {
  const copy = button("Copy", async () => {
    try {
      await navigator.clipboard.writeText(text);
      copy.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code);
      copy.textContent = "Marked: press Ctrl+C";
    }
  }, { class: "quiet" });
  const code = element("pre", { class: "code", tabindex: 0 }, text);
  return element("div", { class: "copyable" }, element("div", { class: "copyable-head" }, element("h3", {}, title), copy), code);
}
