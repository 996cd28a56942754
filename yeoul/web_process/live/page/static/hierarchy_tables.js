// A process in detail, as tables: its threads, tasks and links.

import { element } from "./elements.js";
import { flowOf } from "./hierarchy_shapes.js";
import { number, percent } from "./words.js";

export function table(caption, heads, rows) {
  return element("div", { class: "table-frame", tabindex: 0, role: "region", "aria-label": caption }, element("table", {},
    element("caption", {}, caption),
    element("thead", {}, element("tr", {}, heads.map((head) => element("th", { scope: "col" }, head)))),
    element("tbody", {}, rows.map((cells) => element("tr", {}, cells.map((cell, index) =>
      (index === 0 ? element("th", { scope: "row" }, cell) : element("td", {}, cell))))))));
}

export function threadTables(process, links) {
  const threads = process.threads.map((thread) =>
    [thread.name, String(thread.tid), thread.state, percent(thread.cpu_share), thread.is_library ? "a library" : (thread.part ?? ""), thread.doing]);
  const tasks = process.tasks.map((task) => [task.name, String(task.count), task.state, task.part ?? "", task.doing]);
  const rows = links.map((link) =>
    [link.name, link.kind, link.source, link.target, link.messages === null ? "" : number(link.messages), flowOf(link)]);
  return [
    table("Threads", ["Thread", "Id", "State", "CPU", "Of", "Does"], threads),
    tasks.length ? table("Tasks of the event loop", ["Task", "How many", "State", "Of", "For"], tasks) : null,
    table("Links", ["Link", "Kind", "From", "To", "Messages", "Now"], rows),
  ].filter(Boolean);
}
