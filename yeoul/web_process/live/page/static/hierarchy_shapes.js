// What the picture of the hierarchy is drawn with: boxes and lines that are updated in place. Knows no feed.

import { drawing } from "./elements.js";
import { levelOf } from "./hierarchy_layout.js";
import { age, bytes, count, percent } from "./words.js";

const measuring = document.createElement("canvas").getContext("2d");

// As much of a text as has room, in pixels of the picture; the whole is told by a title.
function fit(text, room, size, weight = 400) {
  measuring.font = `${weight} ${size}px system-ui, -apple-system, "Segoe UI", "Noto Sans", "Open Sans", sans-serif`;
  if (measuring.measureText(text).width <= room) return text;
  let end = text.length;
  while (end > 0 && measuring.measureText(`${text.slice(0, end)}…`).width > room) end -= Math.max(1, Math.ceil((end * 1) / 24));
  return `${text.slice(0, Math.max(0, end)).trimEnd()}…`;
}

export class Box {
  constructor(box, onChoose) {
    this.frame = drawing("rect", { rx: box.kind === "process" ? 14 : 9 });
    this.title = drawing("title");
    this.lines = [0, 1, 2].map((index) => drawing("text", { class: `line-${index}`, "aria-hidden": "true" }));
    this.meter = drawing("rect", { class: "meter", rx: 1.5, height: 3 });
    const isProcess = box.kind === "process";
    this.node = drawing("g", {
      "data-key": box.key,
      ...(isProcess ? { tabindex: 0, role: "button", onclick: onChoose, onkeydown: (event) => {
        if (event.key === "Enter" || event.key === " ") {
          event.preventDefault();
          onChoose();
        }
      } } : {}),
    }, this.title, this.frame, this.lines, this.meter);
  }

  update(box, process, now, isChosen) {
    for (const name of ["x", "y", "width", "height"]) this.frame.setAttribute(name, box[name]);
    if (box.kind === "process") this.#updateProcess(box, process, now, isChosen);
    else if (box.kind === "part") this.#write(box, [[box.name, 18, 12.5, 600]]);
    else this.#updateLeaf(box);
    const state = box.kind === "process" ? process.state : (box.state ?? "");
    this.node.setAttribute("class", `box ${box.kind} is-${state.replaceAll(" ", "-")}${isChosen ? " is-chosen" : ""}`);
  }

  #updateProcess(box, process, now, isChosen) {
    const lasted = `${process.state} for ${age(Math.max(0, now - process.since))}`;
    const restarts = process.num_restarts ? ` · replaced ${count(process.num_restarts, "time")}` : "";
    const used = process.state === "dead" ? "" : ` · CPU ${percent(process.cpu_share)} · ${bytes(process.resident_bytes)}`;
    const title = `${process.title} · pid ${process.pid ?? "–"}`;
    this.#write(box, [[title, 24, 13.75, 650], [`${lasted}${used}${restarts}`, 43, 12], [process.doing, 62, 12.5]]);
    this.#measure(box, process.cpu_share, 70);
    this.node.setAttribute("aria-pressed", String(isChosen));
  }

  #updateLeaf(box) {
    const name = box.count > 1 ? `${box.name} × ${box.count}` : box.name;
    this.#write(box, [[box.kind === "task" ? `task ${name}` : name, 17, 12, 550], [box.doing, 32, 11.5]]);
    this.#measure(box, box.share, box.height - 4);
  }

  #write(box, texts) {
    this.lines.forEach((line, index) => {
      const [text = "", down = 0, size = 12, weight = 400] = texts[index] ?? [];
      line.setAttribute("x", box.x + 12);
      line.setAttribute("y", box.y + down);
      line.setAttribute("font-size", size);
      line.setAttribute("font-weight", weight);
      const fitted = fit(text, box.width - 22, size, weight);
      if (line.textContent !== fitted) line.textContent = fitted;
    });
    const whole = texts.map(([text]) => text).filter(Boolean).join("\n");
    if (this.title.textContent !== whole) this.title.textContent = whole;
  }

  // A bar as long as the share of a core that is used.
  #measure(box, share, down) {
    const room = box.width - 24;
    this.meter.setAttribute("x", box.x + 12);
    this.meter.setAttribute("y", box.y + down);
    this.meter.setAttribute("width", Math.min(1, share) * room);
  }
}

export class LinkLine {
  constructor(link) {
    this.path = drawing("path", { class: "line", "marker-end": "url(#arrow)" });
    this.title = drawing("title");
    this.back = drawing("rect", { class: "back", rx: 5 });
    this.name = drawing("text", { class: "link-name", "font-size": 12, "font-weight": 550 });
    this.flow = drawing("text", { class: "link-flow", "font-size": 11.5 });
    this.node = drawing("g", {}, this.title, this.path);
    this.words = drawing("g", {}, this.back, this.name, this.flow); // drawn after all lines
  }

  update({ link, path, words }) {
    this.path.setAttribute("d", path ?? "");
    const isFlowing = (link.messages_per_second ?? 0) > 0;
    const isFull = (link.fill ?? 0) > 0.5;
    this.words.setAttribute("class", "link");
    this.node.setAttribute("class", `link ${link.kind}${isFlowing ? " is-flowing" : ""}${isFull ? " is-full" : ""}`);
    const flow = flowOf(link);
    this.title.textContent = [link.name, `${link.source} → ${link.target}`, flow, link.address].filter(Boolean).join("\n");
    const hasWords = words !== undefined;
    this.words.style.display = hasWords ? "" : "none";
    if (hasWords) this.#write(link, flow, words);
  }

  #write(link, flow, { x, y, anchor, room = anchor === "start" ? 230 : 144 }) {
    const isAside = anchor === "start";
    const name = { exchange: "exchange", stage: "hidden states" }[link.kind] ?? link.name; // it stands between those whose it is
    this.name.textContent = fit(isAside ? `${name}${arrowOf(link)}` : name, room, 12, 550);
    this.flow.textContent = fit(flow, room, 11.5);
    for (const [node, down] of [[this.name, isAside ? 0 : -3], [this.flow, isAside ? 13 : 15]]) {
      node.setAttribute("x", x);
      node.setAttribute("y", y + down);
      node.setAttribute("text-anchor", anchor);
    }
    // Words stand on the line, which is hidden behind them.
    measuring.font = "550 12px system-ui, -apple-system, \"Segoe UI\", \"Noto Sans\", \"Open Sans\", sans-serif";
    const ofName = measuring.measureText(this.name.textContent).width;
    measuring.font = measuring.font.replace("550 12px", "11.5px");
    const width = Math.max(ofName, measuring.measureText(this.flow.textContent).width) + 14;
    this.back.style.display = isAside ? "none" : "";
    this.back.setAttribute("x", x - width / 2);
    this.back.setAttribute("y", y - 16);
    this.back.setAttribute("width", width);
    this.back.setAttribute("height", flow ? 37 : 19);
  }
}

function arrowOf(link) {
  const isUp = link.kind === "exchange" || link.kind === "stage" ? link.target < link.source : levelOf(link.target) < levelOf(link.source);
  return isUp ? " ↑" : " ↓";
}

export function flowOf(link) {
  if (link.kind === "spawn" || link.kind === "call") return "";
  const parts = [];
  if (link.messages_per_second !== null) parts.push(`${rounded(link.messages_per_second)}/s`);
  if (link.bytes_per_second) parts.push(`${bytes(link.bytes_per_second)}/s`);
  if (link.fill) parts.push(`${percent(link.fill)} full`);
  if (link.queue_depth) parts.push(`${link.queue_depth} wait`);
  return parts.join(" · ");
}

function rounded(rate) {
  return rate === 0 ? "0" : rate < 10 ? rate.toFixed(1) : Math.round(rate).toString();
}
