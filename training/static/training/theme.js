// Runs before the first paint: the theme that was chosen here, else the system's.
"use strict";

(() => {
  const root = document.documentElement;
  // What only scripts fill is not shown without them.
  root.classList.add("scripted");
  const chosen = localStorage.getItem("theme");
  if (chosen === "light" || chosen === "dark") root.dataset.theme = chosen;

  const isDark = () =>
    (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"))
    === "dark";

  addEventListener("DOMContentLoaded", () => {
    const button = document.querySelector("#theme");
    if (!button) return;
    const name = () => button.setAttribute("aria-label", isDark() ? "Light theme" : "Dark theme");
    button.hidden = false;
    name();
    button.addEventListener("click", () => {
      root.dataset.theme = isDark() ? "light" : "dark";
      localStorage.setItem("theme", root.dataset.theme);
      name();
      dispatchEvent(new Event("themechange"));
    });
  });
})();
