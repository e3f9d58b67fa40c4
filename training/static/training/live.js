// A socket that comes back by itself, and questions that are asked until they are answered. The
// page says where it stands; the server tells the rest.

const PING_EVERY_MS = 15000;
const PONG_WITHIN_MS = 8000;
const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 8000;

const SIGNED_OUT = 4401;
const GONE = 4404;
const TOO_MANY = 4429;

const LONGEST_PAUSE_OF_QUESTIONS_MS = 30000;

const SERVER_ERROR = 500;
const PART_AWAY = 503;

export const el = (selector) => document.querySelector(selector);

// ── The socket ─────────────────────────────────────────────────────────────────────────

/**
 * path: "/ws/tasks"; place(): the query that resumes ("after=7"), asked at each connection;
 * heard(message): called with each message but pong; back(): called when a line that was cut is
 * there again.
 */
export function listen(path, { place = () => "", heard, back = () => {} }) {
  let socket = null;
  let pause = 0;
  let wasCut = false;
  let timer = null;
  let sentAt = 0;
  let heardAt = 0;

  const show = (state, text) => {
    const light = document.querySelector("#alive");
    if (!light) return;
    light.hidden = false;
    light.dataset.state = state;
    light.textContent = text;
  };

  function open() {
    clearTimeout(timer);
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const query = place();
    socket = new WebSocket(`${scheme}://${location.host}${path}${query ? `?${query}` : ""}`);
    sentAt = heardAt = performance.now();
    socket.onopen = () => {
      show("live", "live");
      if (wasCut) back();
      wasCut = false;
    };
    socket.onmessage = (frame) => {
      pause = 0;
      heardAt = performance.now();
      const message = JSON.parse(frame.data);
      if (message.type === "error") console.warn(message.message);
      else if (message.type !== "pong") heard(message, socket);
    };
    socket.onclose = (event) => closed(event.code);
  }

  /** Gives the line up without waiting for the other end's word. */
  function leave() {
    socket.onopen = socket.onclose = socket.onmessage = null;
    socket.close();
  }

  function closed(code) {
    wasCut = true;
    if (code === SIGNED_OUT) return show("off", "signed out: load the page again");
    if (code === GONE) return show("off", "gone");
    pause = code === TOO_MANY ? 30000 : Math.min(Math.max(pause * 2, FIRST_PAUSE_MS), LONGEST_PAUSE_MS);
    show("away", "reconnecting…");
    clearTimeout(timer);
    timer = setTimeout(open, pause * (0.5 + Math.random()));
  }

  // A line that was cut says nothing: ask now and then, and start anew where no answer comes.
  setInterval(() => {
    if (socket.readyState !== WebSocket.OPEN) return;
    const now = performance.now();
    if (sentAt > heardAt && now - sentAt > PONG_WITHIN_MS) {
      leave();
      closed(0);
    } else if (now - Math.max(heardAt, sentAt) > PING_EVERY_MS) {
      sentAt = now;
      socket.send('{"type":"ping"}');
    }
  }, 2000);

  // A machine without a network knows it before any line does.
  addEventListener("offline", () => {
    leave();
    closed(0);
  });
  addEventListener("online", () => {
    if (!wasCut) return;
    leave();
    open();
  });
  open();
}

// ── Questions ──────────────────────────────────────────────────────────────────────────

export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

/** What attempt() gives, tried until it gives something: a restart takes the server seconds. */
export async function insist(attempt) {
  for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(pause * 2, LONGEST_PAUSE_OF_QUESTIONS_MS)) {
    const found = await attempt().catch(() => null);
    if (found) return found;
    await sleep(pause * (0.5 + Math.random()));
  }
}

/** The server's answer, whole, with its text. A refusal is one, an error of the server's is none;
 * that something behind it is away is one, as the page says so and each try costs it much. */
export const ask = (address) => insist(async () => {
  const answer = await fetch(address, { credentials: "same-origin" });
  if (answer.status >= SERVER_ERROR && answer.status !== PART_AWAY) return null;
  const { ok, redirected, headers } = answer;
  return { ok, redirected, headers, text: await answer.text() };
});

/** An element of this page as the server has it now; null where it is on the page no more. */
export async function anew(selector) {
  const { ok, redirected, text } = await ask(location.href);
  if (!ok || redirected) return null;
  const element = new DOMParser().parseFromString(text, "text/html").querySelector(selector);
  return element && document.adoptNode(element);
}

/** A function that lets work() run soon, never twice at once: asked meanwhile, it runs again. */
export function soon(work, afterMs) {
  let isWanted = false;
  let isBusy = false;
  return async () => {
    isWanted = true;
    if (isBusy) return;
    isBusy = true;
    try {
      while (isWanted) {
        await sleep(afterMs);
        isWanted = false;
        await work();
      }
    } finally {
      isBusy = false;
    }
  };
}

// ── Time ───────────────────────────────────────────────────────────────────────────────

/** The server's time, from the newest that it told: the browser's own clock may be hours off. */
export function serverClock(told) {
  const base = { at: Date.parse(told), heardAt: performance.now() };
  const now = () => base.at + performance.now() - base.heardAt;
  const hear = (later) => {
    if (Date.parse(later) > now()) Object.assign(base, { at: Date.parse(later), heardAt: performance.now() });
  };
  return { now, hear };
}

// ── Words ──────────────────────────────────────────────────────────────────────────────

export const percent = (value) => (value >= 100 ? "100 %" : `${value.toFixed(1)} %`);

/** Text without terminal codes and other control characters; what is left is only ever text. */
export function plain(text) {
  // eslint-disable-next-line no-control-regex
  return text.replace(/\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-_])/g, "")
    .replace(/[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]/g, "");
}
