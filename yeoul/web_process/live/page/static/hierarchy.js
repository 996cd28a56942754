// The hierarchy as it runs: processes, threads and tasks as boxes that say what they do, links with what flows on them.

import { drawing, element, button } from "./elements.js";
import { feed, listen } from "./feed.js";
import { layOut } from "./hierarchy_layout.js";
import { Box, LinkLine } from "./hierarchy_shapes.js";
import { threadTables } from "./hierarchy_tables.js";
import { clock, count, milliseconds, number, percent, seconds } from "./words.js";

const INCIDENTS = { death: "died", restart: "started again", stall: "silent", recovery: "goes on" };

export function hierarchy() {
  return new Hierarchy();
}

class Hierarchy {
  constructor() {
    this.shapes = new Map();
    this.signature = "";
    this.chosen = null;
    this.picture = drawing("svg", { class: "hierarchy-picture", role: "group", "aria-label": "Processes and what flows between them" });
    this.frame = element("div", { class: "hierarchy-frame" }, this.picture);
    this.facts = element("dl", { class: "engine-facts" });
    this.incidents = element("ol", { class: "incidents" });
    this.quiet = element("p", { class: "empty" }, "Nothing has died, stalled or been replaced.");
    this.details = element("section", { class: "card process-details", "aria-label": "A process in detail", hidden: true });
    this.node = element("div", { class: "hierarchy" },
      element("h1", { class: "unseen" }, "Hierarchy"), this.facts, this.frame, this.details,
      element("section", { class: "card", "aria-label": "Incidents" }, element("h2", {}, "Incidents"), this.quiet,
        element("div", { role: "log", "aria-label": "What happened to processes" }, this.incidents)));
    this.observer = new ResizeObserver(() => this.#draw());
    this.observer.observe(this.frame);
    this.stopListening = listen({ topology: () => this.#draw(), connection: () => this.#draw() });
    this.#draw();
  }

  close() {
    this.observer.disconnect();
    this.stopListening();
  }

  #draw() {
    const { topology } = feed;
    const room = this.frame.clientWidth;
    if (topology === null || room === 0) return;
    const scale = parseFloat(getComputedStyle(document.body).fontSize) / 15;
    const layout = layOut(topology, room / scale);
    this.picture.classList.toggle("stale", !feed.isConnected);
    this.#drawBoxes(topology, layout, scale);
    this.#tellFacts(topology);
    this.#tellIncidents(topology.incidents);
    this.#showDetails();
  }

  #drawBoxes(topology, layout, scale) {
    const byName = new Map(topology.processes.map((process) => [process.name, process]));
    const all = [];
    const collect = (box) => {
      all.push(box);
      box.children?.forEach(collect);
    };
    layout.processes.forEach(collect);
    const signature = [...all.map((box) => box.key), ...layout.links.map(({ link }) => link.name)].join("|");
    if (signature !== this.signature) this.#build(all, layout.links, signature);
    this.picture.setAttribute("viewBox", `0 0 ${layout.width} ${layout.height}`);
    this.picture.setAttribute("width", layout.width * scale);
    this.picture.setAttribute("height", layout.height * scale);
    for (const box of all) this.shapes.get(box.key).update(box, byName.get(box.key), topology.at, box.key === this.chosen);
    for (const entry of layout.links) this.shapes.get(`link ${entry.link.name}`).update(entry);
  }

  // Other boxes than before: everything is drawn anew, and what had the focus has it again.
  #build(boxes, links, signature) {
    const focused = document.activeElement?.dataset?.key;
    this.signature = signature;
    this.shapes.clear();
    for (const box of boxes) this.shapes.set(box.key, new Box(box, () => this.#choose(box.key)));
    for (const { link } of links) this.shapes.set(`link ${link.name}`, new LinkLine(link));
    const shapes = [...this.shapes.values()];
    this.picture.replaceChildren(arrowHead(), ...shapes.map((shape) => shape.node),
      ...shapes.map((shape) => shape.words).filter(Boolean));
    if (focused) this.shapes.get(focused)?.node.focus();
  }

  #choose(key) {
    this.chosen = this.chosen === key ? null : key;
    this.detailsOf = null;
    this.#draw();
    if (this.chosen) this.details.scrollIntoView({ block: "nearest", behavior: "smooth" });
  }

  #showDetails() {
    const process = feed.topology.processes.find((one) => one.name === this.chosen);
    this.details.hidden = process === undefined;
    if (process === undefined) return;
    const links = feed.topology.links.filter((link) => [link.source, link.target].some((end) => end.split("/")[0] === process.name));
    const hasFocus = this.details.contains(document.activeElement);
    const close = button("Close", () => this.#choose(this.chosen), { class: "quiet" });
    this.details.replaceChildren(
      element("header", {}, element("h2", {}, `${process.title}, pid ${process.pid ?? "–"}`), close), ...threadTables(process, links));
    if (hasFocus) close.focus();
  }

  #tellFacts({ engine, is_ready: isReady }) {
    const facts = [
      ["Engine", isReady ? "takes requests" : "takes no requests now"],
      ["Running", number(engine.num_running)],
      ["Waiting", number(engine.num_waiting)],
      ["KV cache", `${percent(engine.kv_usage)} used`],
      ...((engine.kv_tier_usage ?? null) === null ? [] : [["Tier below it", `${percent(engine.kv_tier_usage)} used`]]),
      ["Step", `${number(engine.step_number)}${engine.is_computing ? ", being computed" : ""}`],
      ["In it", `${count(engine.step_num_requests, "request")}, ${count(engine.step_num_tokens, "token")}`],
      ["Step takes", milliseconds(engine.step_seconds)],
      ...["compute", "sample", "schedule", "send"].map((part) => [`Last one's ${part}`, milliseconds(engine[`${part}_seconds`])]),
      ["Last progress", engine.last_progress_seconds === null ? "none yet" : `${seconds(engine.last_progress_seconds)} ago`],
    ];
    this.facts.replaceChildren(...facts.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))));
  }

  #tellIncidents(incidents) {
    if (incidents.length === this.numIncidents && incidents.at(-1)?.at === this.lastIncident) return;
    this.numIncidents = incidents.length;
    this.lastIncident = incidents.at(-1)?.at;
    this.quiet.hidden = incidents.length > 0;
    this.incidents.replaceChildren(...incidents.toReversed().map((incident) =>
      element("li", { class: `incident-${incident.kind}` }, element("time", {}, clock(incident.at)), " ",
        element("strong", {}, `${incident.process} · ${INCIDENTS[incident.kind]}`), " ", incident.words,
        incident.seconds === null ? null : ` (${seconds(incident.seconds)})`)));
  }
}

function arrowHead() {
  return drawing("defs", {}, drawing("marker", {
    id: "arrow", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto-start-reverse",
  }, drawing("path", { d: "M0 0L8 4L0 8z", class: "arrow-head" })));
}
