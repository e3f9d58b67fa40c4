// Keeps the workers alive: the list's socket tells of progress, and that a task began or ended;
// then the page's own middle is read anew. What no task tells of, workers that come and go, is
// looked for now and then.
import { anew, el, listen, percent, plain, soon } from "./live.js";

const REFRESH_AFTER_MS = 1500;
const LOOK_EVERY_MS = 15000;
const FINAL = new Set(["completed", "failed", "cancelled"]);

const refreshSoon = soon(refresh, REFRESH_AFTER_MS);
const statuses = new Map(shownTasks().map((place) => [place.dataset.task, place.dataset.status]));

function shownTasks() {
  return [...document.querySelectorAll("#workers [data-task]")];
}

function heard(told) {
  if (!told.task_id) return;
  const before = statuses.get(told.task_id);
  statuses.set(told.task_id, told.status);
  const isOld = before === undefined && FINAL.has(told.status);
  if (before !== told.status && !isOld) refreshSoon();
  const place = shownTasks().find((one) => one.dataset.task === told.task_id);
  if (!place || told.status !== "running") return;
  place.querySelector("progress").value = told.progress;
  place.querySelector("[data-show]").textContent = `${plain(told.stage)}, ${percent(told.progress)}`;
}

async function refresh() {
  if (document.hidden) return;
  const fresh = await anew("#workers");
  const here = el("#workers");
  // A button that is being pressed must stay until it is let go.
  if (here.querySelector("button:active")) refreshSoon();
  else if (fresh) put(fresh, here);
}

/** The fresh middle in the old one's place: what was open stays open, what was focused, focused. */
function put(fresh, here) {
  const open = namesOf("details[open]");
  const [focused] = namesOf("summary:focus, button:focus, a:focus");
  const kind = document.activeElement.localName;
  here.replaceWith(fresh);
  for (const name of open) cardOf(name)?.querySelector("details").setAttribute("open", "");
  if (focused) cardOf(focused)?.querySelector(kind)?.focus();
}

const cards = () => [...document.querySelectorAll("#workers article")];
const cardOf = (name) => cards().find((card) => card.ariaLabel === name);
const namesOf = (selector) =>
  cards().filter((card) => card.querySelector(selector)).map((card) => card.ariaLabel);

listen("/ws/tasks", { heard, back: refreshSoon });
setInterval(refreshSoon, LOOK_EVERY_MS);
document.addEventListener("visibilitychange", refreshSoon);
