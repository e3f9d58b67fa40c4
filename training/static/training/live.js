// A socket that comes back by itself. The page says where it stands; the server tells the rest.

const PING_EVERY_MS = 15000;
const PONG_WITHIN_MS = 8000;
const LONGEST_PAUSE_MS = 8000;

const SIGNED_OUT = 4401;
const GONE = 4404;
const TOO_MANY = 4429;

/**
 * path: "/ws/tasks"; place(): the query that resumes ("after=7"), asked at each connection;
 * heard(message): called with each message but pong.
 */
export function listen(path, { place, heard }) {
  let socket = null;
  let pause = 0;
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
    socket.onopen = () => show("live", "live");
    socket.onmessage = (frame) => {
      pause = 0;
      heardAt = performance.now();
      const message = JSON.parse(frame.data);
      if (message.type === "error") console.warn(message.message);
      else if (message.type !== "pong") heard(message, socket);
    };
    socket.onclose = (event) => closed(event.code);
  }

  function closed(code) {
    if (code === SIGNED_OUT) return show("off", "signed out: load the page again");
    if (code === GONE) return show("off", "gone");
    pause = code === TOO_MANY ? 30000 : Math.min(Math.max(pause * 2, 250), LONGEST_PAUSE_MS);
    show("away", "reconnecting…");
    clearTimeout(timer);
    timer = setTimeout(open, pause * (0.5 + Math.random()));
  }

  // A line that was cut says nothing: ask now and then, and start anew where no answer comes.
  setInterval(() => {
    if (socket.readyState !== WebSocket.OPEN) return;
    const now = performance.now();
    if (sentAt > heardAt && now - sentAt > PONG_WITHIN_MS) {
      const silent = socket;
      silent.onclose = silent.onmessage = null;
      silent.close();
      closed(0);
    } else if (now - Math.max(heardAt, sentAt) > PING_EVERY_MS) {
      sentAt = now;
      socket.send('{"type":"ping"}');
    }
  }, 2000);

  addEventListener("online", () => {
    if (socket.readyState === WebSocket.CLOSED) open();
  });
  open();
}

/** Text without terminal codes and other control characters; what is left is only ever text. */
export function plain(text) {
  // eslint-disable-next-line no-control-regex
  return text.replace(/\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-_])/g, "")
    .replace(/[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]/g, "");
}

export const el = (selector) => document.querySelector(selector);
