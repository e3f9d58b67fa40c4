// Keeps the list of tasks fresh: by the tasks' socket, and by asking while there is none.
// Without this script the bars stand as the page was made.
"use strict";

(() => {
  const ASK_EVERY_MS = 5000;
  const AGAIN_AFTER_MS = 3000;
  let asking = null;

  function show(task) {
    const bar = document.querySelector(`progress[data-task="${CSS.escape(task.id)}"]`);
    if (!bar) return;
    const row = bar.closest("tr") ?? document;
    const say = (name, text) => {
      const place = row.querySelector(`[data-show="${name}"]`);
      if (place) place.textContent = text;
    };
    bar.value = task.progress;
    say("percent", `${task.progress.toFixed(1)} %`);
    say("status", task.status);
    say("stage", task.stage);
  }

  async function ask() {
    const answer = await fetch("/api/tasks?limit=200", { credentials: "same-origin" });
    if (answer.ok) (await answer.json()).results.forEach(show);
  }

  function listen() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/ws/tasks`);
    socket.onopen = () => {
      clearInterval(asking);
      asking = null;
    };
    socket.onmessage = (message) => {
      const told = JSON.parse(message.data);
      if (told.task_id && typeof told.progress === "number") show({ ...told, id: told.task_id });
    };
    socket.onclose = () => {
      asking ??= setInterval(() => ask().catch(() => {}), ASK_EVERY_MS);
      setTimeout(listen, AGAIN_AFTER_MS);
    };
  }

  addEventListener("DOMContentLoaded", () => {
    if (document.querySelector("progress[data-task]")) listen();
  });
})();
