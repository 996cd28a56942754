// Lets a browser in: by the link that the start has printed, or by a key that somebody types. Knows no view.

import { button, element, field } from "./elements.js";
import { ask } from "./server.js";

// The code of such a link; it is taken out of the address, so that it stays in no history.
export function takeCode() {
  const found = /^#login=([\w-]+)$/.exec(location.hash);
  if (found) history.replaceState(null, "", location.pathname + location.search);
  return found ? found[1] : null;
}

export async function logInWithCode(code) {
  await ask("login", { method: "POST", body: { code } });
}

export async function logOut() {
  await ask("login", { method: "DELETE" });
}

// Asks for a key. ``whenIn`` is called once the server has taken it; ``problem`` is why the link did not do.
export function loginForm(whenIn, problem = "") {
  const key = element("input", { type: "password", name: "key", autocomplete: "current-password", required: true });
  const trouble = element("p", { class: "trouble", role: "alert" }, problem);
  const send = button("Log in", () => {}, { type: "submit", class: "main" });
  const form = element(
    "form",
    { class: "login card", "aria-labelledby": "login-title" },
    element("h1", { id: "login-title" }, "This server wants to know you"),
    element("p", {}, "Open the link that it has printed at its start, or give one of its API keys. The key is sent once; "
      + "your browser then holds a cookie that ends after a week."),
    field("API key", key),
    trouble,
    send,
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    send.disabled = true;
    try {
      await ask("login", { method: "POST", body: { key: key.value } });
      whenIn();
    } catch (error) {
      trouble.textContent = error.message;
      key.select();
    } finally {
      send.disabled = false;
    }
  });
  queueMicrotask(() => key.focus());
  return form;
}
