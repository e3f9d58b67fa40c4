// Keeps the list alive: a state replaces what its row shows; what changes the list's own shape
// (a new task, another status, a deletion) is read anew from the server, rows and all.
import { el, listen, plain } from "./live.js";

const REFRESH_AFTER_MS = 700;

const list = el("#list");
const rowOf = (id) => list.querySelector(`tr[data-task="${CSS.escape(id)}"]`);
let newest = Date.now();
let cursor = "";
let refreshing = null;

function show(told) {
  const row = rowOf(told.task_id);
  if (!row) {
    // Older tasks are told too when the socket opens: only a task made since then is news.
    if (list.dataset.first === "yes" && Date.parse(told.data.created_at) > newest) refreshSoon();
    return;
  }
  if (told.type === "deleted" || row.dataset.status !== told.status) refreshSoon();
  row.querySelector("progress").value = told.progress;
  row.querySelector('[data-show="percent"]').textContent =
    told.progress >= 100 ? "100 %" : `${told.progress.toFixed(1)} %`;
  if (told.status === "running") {
    row.querySelector('[data-show="stage"]').textContent = plain(told.stage);
  }
}

function refreshSoon() {
  refreshing ??= setTimeout(() => {
    refresh().catch(() => {}).finally(() => {
      refreshing = null;
    });
  }, REFRESH_AFTER_MS);
}

async function refresh() {
  const answer = await fetch(location.href, { credentials: "same-origin" });
  if (!answer.ok || answer.redirected) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  const body = fresh.querySelector("#list tbody");
  if (!body) return;
  newest = Date.now();
  const ticked = new Set(chosen().map((box) => box.value));
  const focused = document.activeElement?.closest("tr[data-task]")?.dataset.task;
  const focusedBox = document.activeElement?.matches("input");
  list.tBodies[0].replaceWith(document.adoptNode(body));
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
listen("/ws/tasks", {
  place: () => (cursor ? `cursor=${encodeURIComponent(cursor)}` : ""),
  heard: (told) => {
    cursor = told.cursor ?? cursor;
    if (told.task_id) show(told);
  },
});
