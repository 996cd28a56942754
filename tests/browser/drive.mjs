// Drives the page in a headless Chromium: node drive.mjs SCENE ADDRESS [key=value ...]; prints what it saw as JSON.

import chromium from "@sparticuz/chromium";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import puppeteer from "puppeteer-core";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const [scene, address, ...given] = process.argv.slice(2);
const options = Object.fromEntries(given.map((pair) => [pair.slice(0, pair.indexOf("=")), pair.slice(pair.indexOf("=") + 1)]));
const VIEWS = ["hierarchy", "requests", "plots", "playground"];
const LIMIT = { timeout: 60000 };

const browser = await puppeteer.launch({
  executablePath: await chromium.executablePath(),
  args: ["--no-sandbox", "--disable-gpu", "--no-zygote", "--lang=en-US"],
  env: { ...process.env, LANG: "en_US.UTF-8" },
  headless: "shell",
});
const trouble = [];

async function open(where, { width = 1280, height = 900, scheme = "light" } = {}) {
  const page = await browser.newPage();
  await page.setViewport({ width, height });
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
  page.on("console", (message) => {
    // A browser logs each 401 by itself, also the one by which the page learns that it needs a key.
    if (["error", "warn"].includes(message.type()) && !message.text().includes("401")) trouble.push(message.text());
  });
  page.on("pageerror", (error) => trouble.push(String(error)));
  page.on("request", (request) => {
    if (!request.url().startsWith(new URL(address).origin)) trouble.push(`asks ${request.url()}`);
  });
  await page.goto(where);
  return page;
}

const view = async (page, name) => {
  await page.goto(new URL(`#/${name}`, address).href);
  await page.waitForSelector(`a[data-view="${name}"][aria-current]`, LIMIT);
};
const textOf = (page, selector) => page.$eval(selector, (node) => node.textContent);
const textsOf = (page, selector) => page.$$eval(selector, (nodes) => nodes.map((node) => node.textContent));
const boxesOf = (page) => page.$$eval(".box", (nodes) => nodes.map((node) => node.dataset.key));
const pause = (milliseconds) => new Promise((resume) => setTimeout(resume, milliseconds));

// The library's own way of waiting makes code of a string, which the page forbids.
async function until(page, isSo, ...values) {
  const end = performance.now() + LIMIT.timeout;
  while (!(await page.evaluate(isSo, ...values))) {
    if (performance.now() > end) throw new Error(`it never came to ${isSo}`);
    await pause(50);
  }
}

async function say(page, text) {
  await page.waitForSelector(".composer textarea", LIMIT);
  await page.type(".composer textarea", text);
  await page.keyboard.press("Enter");
}

async function again(page) {
  await page.waitForSelector(".turn:last-child .turn-actions button", LIMIT);
  await page.click(".turn:last-child .turn-actions button");
  await page.waitForSelector(".turn:last-child .verdict.same, .turn:last-child .verdict.differs", LIMIT);
  return textsOf(page, ".turn:last-child .verdict");
}

const SCENES = {
  // A link lets in once, its code leaves the address; a key does afterwards, a wrong one does not.
  async way_in() {
    const page = await open(options.link);
    await page.waitForSelector(".box.process", LIMIT);
    const cookies = await browser.cookies();
    const first = { address: page.url(), cookies: cookies.map(({ httpOnly, sameSite }) => ({ httpOnly, sameSite })) };
    await page.click("#logout");
    await page.waitForSelector(".login", LIMIT);
    await page.goto("about:blank");
    await page.goto(options.link);
    await page.waitForSelector(".login .trouble:not(:empty)", LIMIT);
    const used = await textOf(page, ".login .trouble");
    await page.type(".login input", "wrong");
    await page.keyboard.press("Enter");
    await until(page, (before) => document.querySelector(".login .trouble").textContent !== before, used);
    const wrong = await textOf(page, ".login .trouble");
    await page.$eval(".login input", (node) => node.select());
    await page.type(".login input", options.key);
    await page.keyboard.press("Enter");
    await page.waitForSelector(".box.process", LIMIT);
    return { ...first, used, wrong };
  },

  // Every box and line, and what the tables of a process say.
  async boxes() {
    const page = await open(address);
    await page.waitForSelector(".box.process", LIMIT);
    const boxes = await boxesOf(page);
    const lines = await page.$$eval(".link title", (nodes) => nodes.map((node) => node.textContent.split("\n")[0]));
    await page.$eval('.box.process[data-key="EngineCore"]', (node) => node.focus());
    await page.keyboard.press("Enter");
    await page.waitForSelector(".process-details:not([hidden])", LIMIT);
    return { boxes, lines, threads: await textsOf(page, ".process-details > .table-frame:first-of-type tbody th") };
  },

  // Answers stream, side by side; again they are the same; what a model writes stays text.
  async chat() {
    const page = await open(new URL("#/playground", address).href);
    await page.waitForSelector(".controls", LIMIT);
    await page.$eval(".controls input[max='8']", (node) => { node.value = "3"; });
    await say(page, "<img src=x onerror=alert(1)>");
    const verdicts = await again(page);
    return { said: await textOf(page, ".said"), images: (await page.$$(".turns img")).length, verdicts };
  },

  // A worker dies while an answer is made: it is seen to, another takes its place, and the answer goes on to its end.
  async heal() {
    const page = await open(new URL("#/playground", address).href);
    await say(page, "a long answer");
    await until(page, () => (document.querySelector(".sample > .token-text, .sample > .text")?.textContent.length ?? 0) > 3);
    await view(page, "hierarchy");
    await page.waitForSelector(".box.process", LIMIT);
    process.kill(Number(options.pid), "SIGKILL");
    const killed = performance.now();
    await page.waitForSelector(".box.process.is-dead, .box.process.is-starting", LIMIT);
    const seconds = (performance.now() - killed) / 1000;
    await until(page, () => !document.querySelector(".box.process.is-dead, .box.process.is-starting"));
    const incidents = await textsOf(page, ".incidents li strong");
    await view(page, "playground");
    return { seconds, incidents, verdicts: await again(page) };
  },

  // Requests come, wait for their turn and end, and the list shows it without asking once; the story of one lies behind its name.
  async list() {
    const page = await open(new URL("#/requests", address).href);
    await page.waitForSelector(".requests .empty:not([hidden])", LIMIT);
    const asked = [];
    page.on("request", (request) => asked.push(new URL(request.url()).pathname));
    const body = JSON.stringify({ model: "fake", prompt: "hello", max_tokens: 40, ignore_eos: true });
    const headers = { "content-type": "application/json" };
    const answers = [1, 2, 3].map(() => fetch(new URL("v1/completions", address), { method: "POST", headers, body }));
    await until(page, () => document.querySelectorAll(".state-waiting").length === 2 && document.querySelectorAll(".state-running").length === 1);
    const why = await textsOf(page, "tr:has(.state-waiting) .why");
    const before = await textsOf(page, "tr:has(.state-waiting) td:nth-of-type(7)");
    await until(page, (was) => [...document.querySelectorAll("tr:has(.state-waiting) td:nth-of-type(7)")].some((cell) => !was.includes(cell.textContent)), before);
    await Promise.all(answers);
    await until(page, () => document.querySelectorAll(".state-finished").length === 3);
    await page.select(".requests-filter select", "aborted");
    await page.waitForSelector(".requests .empty:not([hidden])", LIMIT);
    await page.select(".requests-filter select", "finished");
    await until(page, () => document.querySelectorAll(".state-finished").length === 3);
    return { why, asked };
  },

  // A request that runs is ended by its page.
  async abort() {
    const page = await open(new URL("#/playground", address).href);
    await say(page, "a long answer");
    await view(page, "requests");
    await page.waitForSelector(".state-running", LIMIT);
    await page.click("tbody tr:first-child a");
    await page.waitForSelector(".story-head button:not([hidden])", LIMIT);
    await page.click(".story-head button");
    await page.click(".story-head button");
    await page.waitForSelector(".state-aborted", LIMIT);
    return { cards: await textsOf(page, ".story .card h2") };
  },

  // Each view, narrow and wide, light and dark: what axe says, and whether something stands out of the window.
  async looks() {
    const found = [];
    const page = await open(address);
    await say(await view(page, "playground").then(() => page), "hello");
    await again(page);
    for (const scheme of ["light", "dark"]) {
      await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
      for (const width of [360, 1280, 2560]) {
        await page.setViewport({ width, height: 900 });
        for (const name of VIEWS) {
          await view(page, name);
          await pause(700);
          if (options.folder) await page.screenshot({ path: `${options.folder}/${name}-${scheme}-${width}.png` });
          await page.evaluate(AXE);
          const faults = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
          const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
          const where = `${name}, ${scheme}, ${width}`;
          if (overflow > 0) found.push(`${where}: ${overflow} pixels too wide`);
          for (const { id, impact, nodes } of faults.violations) found.push(`${where}: ${impact} ${id} at ${nodes[0].html.slice(0, 100)}`);
        }
      }
    }
    return { found };
  },
};

try {
  console.log(JSON.stringify({ ...(await SCENES[scene]()), trouble }));
} finally {
  await browser.close();
}
