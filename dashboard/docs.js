"use strict";

// Shows /openapi.json with Swagger UI. Where the server wants a token it asks for one
// and keeps it in this page's memory only.

async function load(token) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const answer = await fetch("/openapi.json", { headers });
  if (answer.status === 401) return null;
  if (!answer.ok) throw new Error(`/openapi.json answered ${answer.status}`);
  return answer.json();
}

function show(description, token) {
  document.getElementById("token-form").hidden = true;
  const ui = SwaggerUIBundle({
    spec: description,
    dom_id: "#swagger-ui",
    validatorUrl: null, // it would ask another host
    tryItOutEnabled: true,
    displayRequestDuration: true,
    defaultModelsExpandDepth: 0,
    onComplete: () => token && ui.preauthorizeApiKey("token", token),
  });
}

async function start(token) {
  const message = document.getElementById("token-message");
  try {
    const description = await load(token);
    if (description) return show(description, token);
    document.getElementById("token-form").hidden = false;
    message.textContent = token ? "That is not the token." : "";
  } catch (error) {
    document.getElementById("token-form").hidden = false;
    message.textContent = `Cannot show the API: ${error.message}`;
  }
}

document.getElementById("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const token = document.getElementById("token").value.trim();
  if (/^[ -~]*$/.test(token)) return start(token);
  document.getElementById("token-message").textContent =
    "A token has no letters but those of ASCII.";
});
start("");
