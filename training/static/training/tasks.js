// Keeps the list alive: a state replaces what its row shows; what changes the list's own shape
// (a new task, another status, a deletion) is read anew from the server, rows and all.
import { anew, el, listen, percent, plain, serverClock, soon } from "./live.js";

const REFRESH_AFTER_MS = 700;
const TICK_MS = 1000;

const list = el("#list");
const rowOf = (id) => list.querySelector(`tr[data-task="${CSS.escape(id)}"]`);
const clock = serverClock(list.tBodies[0].dataset.now);
const refreshSoon = soon(refresh, REFRESH_AFTER_MS);

function show(told) {
  const row = rowOf(told.task_id);
  if (!row) {
    // Older tasks are told too when the socket opens: only a task made since then is news.
    if (list.dataset.first === "yes" && isNewer(told.data.created_at)) refreshSoon();
    return;
  }
  if (told.type === "deleted" || row.dataset.status !== told.status) refreshSoon();
  row.querySelector("progress").value = told.progress;
  row.querySelector('[data-show="percent"]').textContent = percent(told.progress);
  if (told.status === "running") {
    row.querySelector('[data-show="stage"]').textContent = plain(told.stage);
  }
}

/** As `words.age` says it: one number, one unit. */
function age(seconds) {
  for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "m"]]) {
    if (seconds >= size) return `${Math.floor(seconds / size)} ${unit}`;
  }
  return `${Math.max(Math.floor(seconds), 0)} s`;
}

setInterval(() => {
  for (const place of list.querySelectorAll("[data-at]")) {
    const text = age((clock.now() - Date.parse(place.dataset.at)) / 1000);
    if (place.textContent !== text) place.textContent = text;
  }
}, TICK_MS);

/** Than every task that the server knew when it made the rows, by its own clock. */
function isNewer(createdAt) {
  const { newest } = list.tBodies[0].dataset;
  return !newest || Date.parse(createdAt) > Date.parse(newest);
}

async function refresh() {
  const body = await anew("#list tbody");
  if (!body) return;
  const ticked = new Set(chosen().map((box) => box.value));
  const focused = document.activeElement?.closest("tr[data-task]")?.dataset.task;
  const focusedBox = document.activeElement?.matches("input");
  list.tBodies[0].replaceWith(body);
  clock.hear(body.dataset.now);
  for (const box of boxes()) box.checked = ticked.has(box.value);
  if (focused) rowOf(focused)?.querySelector(focusedBox ? "input" : "a")?.focus();
  count();
}

const boxes = () => [...list.querySelectorAll('input[name="task"]')];
const chosen = () => boxes().filter((box) => box.checked);

function count() {
  const number = chosen().length;
  el("#chosen").textContent = number
    ? `${number} chosen`
    : "Tick tasks to act on several at once.";
}

list.addEventListener("change", count);
el("#all").hidden = false;
el("#all input").addEventListener("change", ({ target }) => {
  for (const box of boxes()) box.checked = target.checked;
  count();
});
listen("/ws/tasks", {
  heard: (told) => {
    if (told.task_id) show(told);
  },
  // What was deleted meanwhile is told to nobody.
  back: refreshSoon,
});
