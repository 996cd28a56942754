// The page: its views by the address behind #, the login, light and dark. Everything else is the views' own.

import { element } from "./elements.js";
import { feed } from "./feed.js";
import { hierarchy } from "./hierarchy.js";
import { logInWithCode, logOut, loginForm, takeCode } from "./login.js";
import { playground } from "./playground.js";
import { plots } from "./plots.js";
import { requests } from "./requests.js";
import { askJson, whenAKeyIsNeeded } from "./server.js";

// Name in the address -> what its link says, and what makes it: a node that may have close() for when it is left.
const VIEWS = {
  hierarchy: ["Hierarchy", hierarchy],
  requests: ["Requests", requests],
  plots: ["Plots", plots],
  playground: ["Playground", playground],
};

const place = document.getElementById("view");
const status = document.getElementById("status");
const logoutButton = document.getElementById("logout");
let models = [];
let shown = null;
let isAskingForKey = false;

function chosenView() {
  const name = location.hash.replace(/^#\/?/, "").split("/")[0];
  return name in VIEWS ? name : Object.keys(VIEWS)[0];
}

function show() {
  if (isAskingForKey || models.length === 0) return;
  const name = chosenView();
  const rest = location.hash.replace(/^#\/?/, "").split("/").slice(1).map(decodeURIComponent);
  for (const link of document.querySelectorAll("#views a")) {
    if (link.dataset.view === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${VIEWS[name][0]} · Yeoul`;
  shown?.close?.();
  shown = VIEWS[name][1]({ models, rest });
  place.replaceChildren(shown.node);
}

async function begin(problem = "") {
  isAskingForKey = false;
  try {
    models = (await askJson("v1/models")).data;
    feed.start();
    tellStatus();
  } catch (error) {
    if (error.status === 401) {
      askForKey(problem);
      return;
    }
    status.textContent = error.message;
    setTimeout(begin, 2000);
    return;
  }
  show();
}

function askForKey(problem = "") {
  if (isAskingForKey && !problem) return;
  isAskingForKey = true;
  shown?.close?.();
  shown = null;
  noteCookie(false);
  feed.stop();
  status.textContent = "";
  place.replaceChildren(loginForm(() => {
    noteCookie(true);
    begin();
  }, problem));
}

// Scripts cannot see the cookie itself.
function noteCookie(isThere) {
  localStorage.setItem("cookie", isThere ? "yes" : "no");
  logoutButton.hidden = !isThere;
}

// The model, and what is not as it should be.
function tellStatus() {
  const { topology, isConnected, problem } = feed;
  const missing = topology?.processes.filter((process) => process.state !== "running") ?? [];
  let words = models[0]?.id ?? "";
  if (!isConnected && problem) words = problem;
  else if (missing.length) words += ` · ${missing.map((process) => `${process.name} is ${process.state}`).join(", ")}`;
  else if (isConnected) words += topology?.is_ready ? " · all is well" : " · not ready";
  if (isAskingForKey || status.textContent === words) return;
  status.textContent = words;
  status.classList.toggle("is-bad", !isConnected && problem !== "" || missing.length > 0);
}

const THEMES = ["light", "dark"];

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  localStorage.setItem("theme", theme);
  dispatchEvent(new CustomEvent("theme"));
}

function changeTheme() {
  const now = document.documentElement.dataset.theme
    ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  setTheme(THEMES.find((theme) => theme !== now));
}

async function start() {
  const chosen = localStorage.getItem("theme");
  if (THEMES.includes(chosen)) document.documentElement.dataset.theme = chosen;
  logoutButton.hidden = localStorage.getItem("cookie") !== "yes";
  document.getElementById("theme").addEventListener("click", changeTheme);
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault();
    place.focus();
  });
  const links = Object.entries(VIEWS).map(([name, [title]]) =>
    element("li", {}, element("a", { href: `#/${name}`, "data-view": name }, title)));
  document.getElementById("views").append(...links);
  logoutButton.addEventListener("click", async () => {
    await logOut();
    askForKey();
  });
  feed.addEventListener("topology", tellStatus);
  feed.addEventListener("connection", tellStatus);
  whenAKeyIsNeeded(() => askForKey());
  addEventListener("hashchange", () => {
    const code = takeCode();
    if (code === null) show();
    else enter(code);
  });
  const code = takeCode();
  if (code === null) await begin();
  else await enter(code);
}

async function enter(code) {
  try {
    await logInWithCode(code);
    noteCookie(true);
    await begin();
  } catch (error) {
    await begin(error.message);
  }
}

start();
