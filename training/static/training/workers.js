// Reads the page's own middle anew every few seconds, as long as somebody looks at it.
const EVERY_MS = 4000;

async function refresh() {
  if (document.hidden) return;
  const answer = await fetch(location.href, { credentials: "same-origin" });
  if (!answer.ok || answer.redirected) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  const here = document.querySelector("#workers");
  // What somebody has opened, or is about to press, is left alone.
  if (here.querySelector("details[open], button:focus")) return;
  here.replaceWith(document.adoptNode(fresh.querySelector("#workers")));
}

setInterval(() => refresh().catch(() => {}), EVERY_MS);
