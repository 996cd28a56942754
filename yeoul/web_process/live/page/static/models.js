// The models of this server where they come and go: which are in memory, what each takes, and buttons that load and unload them.

import { button, element } from "./elements.js";
import { askJson } from "./server.js";
import { number, seconds } from "./words.js";

const MILLISECONDS_BETWEEN_LOOKS = 1000;
const UNDER_WAY = ["loaded", "loading", "downloading"];

export function models() {
  return new ModelList();
}

class ModelList {
  constructor() {
    this.body = element("tbody");
    this.trouble = element("p", { class: "trouble", role: "alert" });
    this.rows = new Map();
    const heads = ["Model", "State", "Takes", "Requests", "Loaded", "Last load took", "Leaves in", ""];
    this.node = element("div", { class: "requests models" }, element("h1", { class: "unseen" }, "Models"), this.trouble,
      element("div", { class: "card table-frame", tabindex: 0, role: "region", "aria-label": "Models" },
        element("table", {}, element("caption", { class: "unseen" }, "Models, and whether they are in memory"),
          element("thead", {}, element("tr", {}, heads.map((head) => head === ""
            ? element("td", {}) : element("th", { scope: "col" }, head)))), this.body)));
    this.timer = setInterval(() => this.#look(), MILLISECONDS_BETWEEN_LOOKS);
    this.#look();
  }

  close() {
    clearInterval(this.timer);
  }

  async #look() {
    if (document.hidden) return;
    try {
      const { data } = await askJson("v1/models");
      for (const model of data) this.#rowOf(model.id).tell(model);
      if (this.failed) this.#tellTrouble("");
    } catch (error) {
      this.#tellTrouble(error.message);
    }
  }

  #rowOf(name) {
    if (!this.rows.has(name)) {
      const row = new Row(name, (what) => this.#order(what, name));
      this.rows.set(name, row);
      this.body.append(row.node);
    }
    return this.rows.get(name);
  }

  async #order(what, name) {
    try {
      await askJson(`v1/models/${what}`, { method: "POST", body: { model: name } });
      this.#tellTrouble("");
    } catch (error) {
      this.#tellTrouble(error.message);
    }
    this.#look();
  }

  #tellTrouble(words) {
    this.failed = words !== "";
    this.trouble.textContent = words;
  }
}

class Row {
  constructor(name, order) {
    this.mark = element("span", { class: "state" });
    this.why = element("small", { class: "model-why" });
    this.cells = Array.from({ length: 5 }, () => element("td"));
    this.what = "load";
    this.button = button("Load", () => order(this.what), { "aria-label": `Load ${name}` });
    this.name = name;
    this.node = element("tr", { "data-model": name }, element("th", { scope: "row", class: "code" }, name),
      element("td", {}, this.mark, this.why), ...this.cells, element("td", {}, this.button));
  }

  tell({ status }) {
    const { value, failed, error, progress } = status;
    this.mark.textContent = failed ? "failed" : value;
    this.mark.className = `state state-${failed ? "failed" : markOf(value)}`;
    this.why.textContent = failed ? error : progress ? soFar(progress) : "";
    const words = [
      status.memory_bytes === undefined ? "–" : `${number(Math.round(status.memory_bytes / 2 ** 20))} MiB`,
      number(status.num_unfinished),
      status.num_loads === 1 ? "once" : `${number(status.num_loads)} times`,
      seconds(status.load_seconds),
      seconds(status.expires_in_seconds),
    ];
    words.forEach((word, index) => {
      if (this.cells[index].textContent !== word) this.cells[index].textContent = word;
    });
    this.what = UNDER_WAY.includes(value) ? "unload" : "load";
    const label = this.what === "load" ? "Load" : value === "downloading" ? "Stop" : "Unload";
    if (this.button.textContent !== label) {
      this.button.textContent = label;
      this.button.setAttribute("aria-label", `${label} ${this.name}`);
    }
    this.button.disabled = value === "unloading";
  }
}

function markOf(value) {
  return value === "loaded" ? "running" : value === "unloaded" ? "idle" : "waiting";
}

function soFar(progress) {
  const [done, total] = Object.values(progress).reduce(([done, total], one) => [done + one.done, total + one.total], [0, 0]);
  return total ? `${Math.floor((100 * done) / total)} % of ${number(Math.round(total / 1e6))} MB` : "";
}
