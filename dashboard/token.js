// Asking for a token when the server wants one. It is kept for this tab only, by api.js.

import { ask, canBeSent, hasToken, keepToken, whenLocked } from "./api.js";
import { byId, setText, show } from "./dom.js";
import { hurry } from "./poll.js";
import { on, state, tell } from "./state.js";

const dialog = byId("token-dialog");
const input = byId("token");
const message = byId("token-message");
let isPutOff = false; // somebody closed the dialog: it does not open by itself again

/** Begins to watch for answers that want a token. */
export function startToken() {
  whenLocked(() => isPutOff || open());
  byId("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    tryToken(input.value.trim());
  });
  byId("token-later").addEventListener("click", () => dialog.close());
  byId("token-forget").addEventListener("click", forget);
  byId("token-open").addEventListener("click", open);
  dialog.addEventListener("close", () => {
    isPutOff = state.link === "locked" && !hasToken();
  });
  on("link", () => show(byId("token-open"), state.link === "locked"));
}

function open() {
  if (dialog.open) return;
  if (state.link !== "locked") {
    state.link = "locked";
    tell("link");
  }
  setText(message, hasToken() ? "The token that this tab kept is not accepted any more." : "");
  if (hasToken()) keepToken("");
  dialog.showModal();
  input.focus();
}

async function tryToken(token) {
  if (!token) return input.focus();
  if (!canBeSent(token)) return setText(message, "A token has no letters but those of ASCII.");
  keepToken(token);
  const answer = await ask("GET", "/nodes");
  if (answer.status === 401) {
    keepToken("");
    setText(message, "That is not the token. Look for api_token or read_token in its settings.");
    input.select();
    return;
  }
  if (answer.status === 0) return setText(message, "The server does not answer.");
  input.value = "";
  setText(message, "");
  dialog.close();
  hurry();
}

function forget() {
  keepToken("");
  state.hasToken = false;
  state.access = "unknown";
  state.link = "locked";
  tell("link", "access");
  hurry();
}
