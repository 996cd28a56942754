// One plot over time, by uPlot; its newest values stand beside its lines' names, also for those who do not see it.

import { element, newId } from "./elements.js";
import uPlot from "./uplot/uPlot.esm.js";

const heightNow = () => (innerWidth > 1800 ? Math.max(200, Math.round(innerHeight * 0.28)) : 170);
const AT_ONCE = uPlot.sync("plots"); // the cursor is at the same second in all of them

export const whole = (value) => (value >= 10000 ? `${Math.round(value / 1000)}k` : `${Math.round(value)}`);

export class Plot {
  constructor(title, words, lines) {
    this.words = words;
    this.lines = lines;
    this.points = [];
    this.place = element("div", { class: "plot-place", "aria-hidden": "true" });
    this.values = lines.map(() => element("output", {}, "–"));
    const id = newId("plot");
    this.node = element("figure", { class: "plot card", "aria-labelledby": id },
      element("figcaption", {}, element("h2", { id }, title), element("ul", { class: "plot-lines" }, lines.map(([name, colour], index) =>
        element("li", {}, element("span", { class: `swatch swatch${colour}` }), name, " ", this.values[index])))), this.place);
  }

  draw(points) {
    this.points = points;
    const columns = [points.map((point) => point.at), ...this.lines.map(([, , valueOf]) => points.map(valueOf))];
    if (this.chart === undefined) this.#make(columns);
    else this.chart.setData(columns);
    if (!this.isPointedAt) this.#tell(points.length - 1);
  }

  resize() {
    const width = this.place.clientWidth;
    if (this.chart && width && width !== this.chart.width) this.chart.setSize({ width, height: heightNow() });
  }

  recolour() {
    this.close();
    this.draw(this.points);
  }

  close() {
    this.chart?.destroy();
    this.chart = undefined;
  }

  // Of things that are counted there are no halves.
  onAxis(value) {
    return this.words === whole && !Number.isInteger(value) ? "" : this.words(value);
  }

  // The values of the second that is pointed at, or of the last one.
  #tell(index) {
    this.lines.forEach(([, , valueOf], line) => {
      const value = index >= 0 && this.points[index] ? valueOf(this.points[index]) : null;
      this.values[line].textContent = value === null ? "–" : this.words(value);
    });
  }

  #make(columns) {
    const width = this.place.clientWidth;
    if (width === 0) return;
    const style = getComputedStyle(document.documentElement);
    const probe = element("span", { hidden: true });
    this.node.append(probe);
    const colour = (name) => {
      probe.style.color = `var(${name})`;
      return getComputedStyle(probe).color;
    };
    const axis = {
      stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false },
      font: `11px ${style.fontFamily}`,
    };
    this.chart = new uPlot({
      width, height: heightNow(),
      legend: { show: false },
      cursor: { y: false, points: { size: 6 }, sync: { key: AT_ONCE.key }, drag: { x: false, y: false } },
      scales: { y: { range: (_, low, high) => [0, high > 0 ? high * 1.08 : 1] } },
      axes: [
        { ...axis, size: 26, incrs: [60, 120, 300], values: (_, times) => times.map((time) => new Date(time * 1000).toTimeString().slice(0, 5)) },
        { ...axis, size: 54, values: (_, values) => values.map((value) => this.onAxis(value)) },
      ],
      series: [{}, ...this.lines.map(([, name, , isSparse = false]) => ({
        stroke: colour(name), width: 1.75, spanGaps: false, points: { show: isSparse, size: 5, fill: colour(name) },
      }))],
      hooks: { setCursor: [(chart) => {
        this.isPointedAt = chart.cursor.idx !== null && chart.cursor.idx !== undefined && chart.cursor.left >= 0;
        this.#tell(this.isPointedAt ? chart.cursor.idx : this.points.length - 1);
      }] },
    }, columns, this.place);
    probe.remove();
  }
}
