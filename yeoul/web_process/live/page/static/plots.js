// The last quarter of an hour as an operator wants it: tokens, requests, the cache, and how long things take.

import { element } from "./elements.js";
import { feed, listen } from "./feed.js";
import { Plot, whole } from "./plot.js";
import { milliseconds, percent, seconds } from "./words.js";

const share = (part, whole) => (whole ? part / whole : null);

// Title, what it says on its axis and in its legend, and lines: name, colour, the value of a second, and whether many have none.
const PLOTS = [
  ["Tokens a second", whole, [
    ["written", "--water", (point) => point.num_output_tokens],
    ["read", "--warn", (point) => point.num_prompt_tokens],
  ]],
  ["Requests", whole, [
    ["running", "--water", (point) => point.num_running],
    ["waiting", "--bad", (point) => point.num_waiting],
  ]],
  ["KV cache and prefixes", percent, [
    ["blocks in use", "--water", (point) => point.kv_usage],
    ["prompt tokens found in the cache", "--good", (point) => share(point.num_found_tokens, point.num_looked_up_tokens), true],
  ]],
  ["To the first token", seconds, [
    ["half are faster", "--water", (point) => point.ttft_p50, true],
    ["99 of 100 are", "--bad", (point) => point.ttft_p99, true],
  ]],
  ["From token to token", seconds, [
    ["half are faster", "--water", (point) => point.gap_p50],
    ["99 of 100 are", "--bad", (point) => point.gap_p99],
  ]],
  ["A step, on average", milliseconds, [
    ["compute", "--water", (point) => share(point.compute_seconds, point.num_steps)],
    ["sample", "--good", (point) => share(point.sample_seconds, point.num_steps)],
    ["schedule", "--warn", (point) => share(point.schedule_seconds, point.num_steps)],
    ["send", "--bad", (point) => share(point.send_seconds, point.num_steps)],
  ]],
  ["Time that is computed in", percent, [
    ["of each second", "--water", (point) => Math.min(1, point.compute_seconds + point.sample_seconds)],
  ]],
  ["Preemptions", whole, [
    ["requests that gave their blocks to others", "--bad", (point) => point.num_preemptions],
  ]],
];

export function plots() {
  const charts = PLOTS.map(([title, words, lines]) => new Plot(title, words, lines));
  const empty = element("p", { class: "empty" }, "Nothing has been counted yet.");
  const grid = element("div", { class: "plots" }, charts.map((chart) => chart.node));
  const node = element("div", {}, element("h1", { class: "unseen" }, "Plots"), empty, grid);
  const draw = () => {
    empty.hidden = feed.points.length > 0;
    charts.forEach((chart) => chart.draw(feed.points));
  };
  const recolour = () => charts.forEach((chart) => chart.recolour());
  const scheme = matchMedia("(prefers-color-scheme: dark)");
  scheme.addEventListener("change", recolour);
  addEventListener("theme", recolour);
  const observer = new ResizeObserver(() => charts.forEach((chart) => chart.resize()));
  observer.observe(grid);
  const stopListening = listen({ numbers: draw });
  queueMicrotask(draw);
  return {
    node,
    close() {
      stopListening();
      observer.disconnect();
      scheme.removeEventListener("change", recolour);
      removeEventListener("theme", recolour);
      charts.forEach((chart) => chart.close());
    },
  };
}
