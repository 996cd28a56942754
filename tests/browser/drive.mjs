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
    const isKnown = message.text().includes("401") || (scene === "history" && message.text().includes("net::ERR_")); // a server that is away
    if (["error", "warn"].includes(message.type()) && !isKnown) trouble.push(message.text());
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

  // Everything beside a conversation does what it says: what is sent, and what comes of it.
  async controls() {
    const page = await open(new URL("#/playground", address).href);
    const sent = [];
    page.on("request", (request) => {
      if (request.url().endsWith("/v1/chat/completions")) sent.push(JSON.parse(request.postData()));
    });
    await page.waitForSelector(".controls", LIMIT);
    const control = async (label) => {
      const fields = await page.$$(".controls label");
      for (const one of fields) {
        if ((await one.evaluate((node) => node.firstChild.textContent)) !== label) continue;
        return page.$(`#${await one.evaluate((node) => node.htmlFor)}`);
      }
      throw new Error(`there is no field ${label}`);
    };
    const fill = async (label, value) => (await control(label)).evaluate((node, text) => {
      node.value = text;
      node.dispatchEvent(new Event("change"));
    }, value);
    await page.$$eval(".controls details", (nodes) => nodes.forEach((node) => { node.open = true; }));
    const numbers = { Temperature: "0.5", "Top p": "0.9", "Top k": "40", "Min p": "0.01", "Repetition penalty": "1.1", "Presence penalty": "0.2", "Frequency penalty": "0.3" };
    for (const [label, value] of Object.entries({ ...numbers, Seed: "7", "Most tokens": "60", "Stop at": "@@" })) await fill(label, value);
    await fill("The answer is", "regex");
    await fill("Its form", "(yes|no), because [a-z ]{10,20}\\.");
    const answers = [];
    for (const text of ["why?", "why?"]) {
      await say(page, text);
      await page.waitForSelector(".turn:last-child .turn-actions button", LIMIT);
      answers.push((await textsOf(page, ".turn:last-child .tokens > :not(.beyond)")).join(""));
      if (answers.length === 1) await page.click(".composer-actions button:last-child");
    }
    // What else might have stood there, by the mouse and by keys.
    await page.hover(".turn:last-child .tokens [data-place='2']");
    await page.waitForSelector(".token-details:not([hidden])", LIMIT);
    const byMouse = await textsOf(page, ".token-details .row code");
    await page.focus(".turn:last-child .tokens");
    await page.keyboard.press("Home");
    const byKeys = await textsOf(page, ".token-details .row code");
    // A tool that the model has to call; its result goes on.
    await fill("The answer is", "text");
    await fill("Calls", "required");
    await fill("Tools", "[no JSON");
    await say(page, "the weather?");
    await page.waitForSelector(".composer .trouble:not(:empty)", LIMIT);
    const wrong = await textOf(page, ".composer .trouble");
    const buttons = await page.$$(".controls details button");
    await buttons[0].click();
    await page.focus(".composer textarea");
    await page.keyboard.press("Enter");
    await page.waitForSelector(".results textarea", LIMIT);
    const calls = await textsOf(page, ".turn:last-child .call strong");
    await fill("Calls", "none");
    await page.type(".results textarea", "It rains.");
    await page.click(".results button");
    await page.waitForSelector(".said-tool", LIMIT);
    await page.waitForSelector(".turn:last-child .turn-actions button", LIMIT);
    return { answers, byMouse, byKeys, wrong, calls, sent };
  },

  // What was asked for before the server was started again is still there, and the page finds the new one by itself.
  async history() {
    const page = await open(new URL("#/requests", address).href);
    await page.waitForSelector(".state-finished", LIMIT);
    const before = await textsOf(page, ".requests tbody th");
    process.kill(Number(options.pid), "SIGTERM");
    await page.waitForSelector("#status.is-bad", LIMIT);
    await until(page, () => document.querySelector("#status").textContent.includes("all is well"));
    const after = await textsOf(page, ".requests tbody th");
    await page.click(".requests tbody a");
    await page.waitForSelector(".causes-bar", LIMIT);
    return { before, after };
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

  // A model is loaded and unloaded by its button, and looked at; its playground asks that one.
  async models() {
    const page = await open(new URL("#/models", address).href);
    const row = (name) => `tr[data-model="${name}"]`;
    const becomes = async (name, state) => {
      await until(page, (selector, wanted) => document.querySelector(`${selector} .state`)?.textContent === wanted, row(name), state);
    };
    await becomes("second", "unloaded");
    const before = await textsOf(page, "tbody .state");
    await page.click(`${row("second")} button`);
    await becomes("second", "loaded");
    await page.select("#model", "second");
    await view(page, "hierarchy");
    await page.waitForSelector('.box[data-key="Worker_0"]', LIMIT);
    const boxes = await boxesOf(page);
    await view(page, "playground");
    const greeting = await textOf(page, ".conversation .empty");
    await view(page, "models");
    await becomes("second", "loaded");
    await page.evaluate(AXE);
    const faults = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
    await page.click(`${row("second")} button`);
    await becomes("second", "unloaded");
    return { before, boxes, greeting, faults: faults.violations.map(({ id, nodes }) => `${id} at ${nodes[0].html.slice(0, 200)}`) };
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
