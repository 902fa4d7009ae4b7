// The choice of colours: auto, light or dark. A classic script in <head>, so that the page
// is never painted in the wrong ones first. The choice stays in this browser (localStorage).
"use strict";

(() => {
  const NAME = "kv-theme";
  const root = document.documentElement;

  function saved() {
    try {
      return localStorage.getItem(NAME) ?? "auto";
    } catch {
      return "auto"; // storage is switched off
    }
  }

  function apply(choice) {
    if (choice === "light" || choice === "dark") root.dataset.theme = choice;
    else delete root.dataset.theme;
    root.dispatchEvent(new CustomEvent("themechange"));
  }

  apply(saved());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => apply(saved()));
  document.addEventListener("DOMContentLoaded", () => {
    const select = document.getElementById("theme");
    select.value = saved();
    select.addEventListener("change", () => {
      try {
        localStorage.setItem(NAME, select.value);
      } catch {
        // not kept, but it holds for this page
      }
      apply(select.value);
    });
  });
})();
