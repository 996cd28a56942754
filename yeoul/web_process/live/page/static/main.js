// The page: its views by the address behind #, the login, light and dark. Everything else is the views' own.

import { element } from "./elements.js";
import { feed } from "./feed.js";
import { hierarchy } from "./hierarchy.js";
import { logInWithCode, logOut, loginForm, takeCode } from "./login.js";
import { models as modelList } from "./models.js";
import { playground } from "./playground.js";
import { plots } from "./plots.js";
import { requests } from "./requests.js";
import { askJson, lookAt, whenAKeyIsNeeded } from "./server.js";

// Name in the address -> what its link says, and what makes it: a node that may have close() for when it is left.
const VIEWS = {
  hierarchy: ["Hierarchy", hierarchy],
  requests: ["Requests", requests],
  plots: ["Plots", plots],
  playground: ["Playground", playground],
};

// Where models come and go.
const FLEET_VIEWS = { models: ["Models", modelList] };

const place = document.getElementById("view");
const status = document.getElementById("status");
const logoutButton = document.getElementById("logout");
const modelChoice = document.getElementById("model");
let models = [];
let model = null;
let views = VIEWS;
let shown = null;
let isAskingForKey = false;

function chosenView() {
  const name = location.hash.replace(/^#\/?/, "").split("/")[0];
  return name in views ? name : Object.keys(views)[0];
}

function show() {
  if (isAskingForKey || models.length === 0) return;
  const name = chosenView();
  const rest = location.hash.replace(/^#\/?/, "").split("/").slice(1).map(decodeURIComponent);
  for (const link of document.querySelectorAll("#views a")) {
    if (link.dataset.view === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${views[name][0]} · Yeoul`;
  shown?.close?.();
  shown = views[name][1]({ model, rest });
  place.replaceChildren(shown.node);
}

async function begin(problem = "") {
  isAskingForKey = false;
  try {
    models = (await askJson("v1/models")).data;
    showModels();
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

// Where there are several, one of them is looked at; the first that is loaded until another is chosen.
function showModels() {
  model = models.find((one) => one.id === model?.id) ?? models.find((one) => one.status?.value === "loaded") ?? models[0];
  if (models.some((one) => one.status !== undefined)) views = { ...VIEWS, ...FLEET_VIEWS };
  linkViews();
  const isChoice = views !== VIEWS && models.length > 1;
  modelChoice.hidden = !isChoice;
  if (!isChoice) return;
  lookAt(model.id);
  modelChoice.replaceChildren(...models.map(({ id }) => element("option", { value: id, selected: id === model.id }, id)));
}

function chooseModel() {
  model = models.find((one) => one.id === modelChoice.value);
  lookAt(model.id);
  feed.restart();
  show();
}

function linkViews() {
  const links = Object.entries(views).map(([name, [title]]) =>
    element("li", {}, element("a", { href: `#/${name}`, "data-view": name }, title)));
  document.getElementById("views").replaceChildren(...links);
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
  let words = model?.id ?? "";
  if (!isConnected && problem) words = problem;
  else if (missing.length) words += ` · ${missing.map((process) => `${process.name} is ${process.state}`).join(", ")}`;
  else if (isConnected) words += topology?.is_ready ? " · all is well" : views === VIEWS ? " · not ready" : " · not in memory";
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
  linkViews();
  modelChoice.addEventListener("change", chooseModel);
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
