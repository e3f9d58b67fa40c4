// The editor: a plain text field over a coloured copy of its text, so that keyboard, search,
// undo and reading aloud stay the browser's own. It is checked while one types.
import { el, plain } from "./live.js";

const CHECK_AFTER_MS = 350;
const AGAIN_AFTER_MS = 3000;
const MADE = 201;
const SIGNED_OUT = 401;
const field = el("#workflow");
const ink = el("#editor .ink");
const gutter = el("#editor .lines");
let findings = [];
let asked = 0;
let timer = null;
let leaving = false;

// ── Colours ────────────────────────────────────────────────────────────────────────────

const KEY = /^(\s*(?:- )*)("[^"]*"|'[^']*'|[^\s#"'[\]{}&*!|>%@`-][^#:]*?|-[^\s#:][^#:]*?)(\s*:)(?=\s|$)/;
const WORD = /^(?:true|false|null|yes|no|on|off|~|<[A-Z_]+>)$/i;
const NUMBER = /^[-+]?(?:\d[\d_]*\.?\d*(?:e[-+]?\d+)?|\.\d+|\d{4}-\d\d-\d\d.*)$/i;
// Quoted text; a comment; a mark; plain words up to a mark, a colon or a comment; whatever is left.
const PART = /("(?:[^"\\]|\\.)*"|'(?:[^']|'')*')|(\s#.*$|^#.*$)|[[\]{},]|:(?=\s|$)|([^\s[\]{},"'](?:[^[\]{},"']*?[^\s[\]{},"'])??)(?=:\s|:$|\s+#|\s*(?:[[\]{},"']|$))|\s+|[^]/g;

function piece(kind, text) {
  if (!kind) return text;
  const span = document.createElement("span");
  span.className = kind;
  span.textContent = text;
  return span;
}

function* coloured(line) {
  const key = KEY.exec(line);
  const lead = key ? key[1] : /^\s*(?:- )*/.exec(line)[0];
  yield lead;
  if (key) {
    yield piece("y-key", key[2]);
    yield key[3];
  }
  for (const part of line.slice(key ? key[0].length : lead.length).matchAll(PART)) {
    const [whole, text, comment, word] = part;
    if (text) yield piece("y-text", text);
    else if (comment) yield piece("y-comment", comment);
    else if (word && NUMBER.test(word)) yield piece("y-number", word);
    else if (word && WORD.test(word)) yield piece("y-word", word);
    else yield whole;
  }
}

function paint() {
  const worst = new Map();
  for (const one of findings) if (one.line && worst.get(one.line) !== "fault") worst.set(one.line, one.kind);
  const rows = field.value.split("\n");
  ink.replaceChildren(...rows.flatMap((row, number) => {
    const isFaulty = worst.get(number + 1) === "fault";
    if (!isFaulty) return [...coloured(row), "\n"];
    const indent = /^\s*/.exec(row)[0];
    const span = piece("y-fault", "");
    span.append(...coloured(row.slice(indent.length)));
    return [indent, span, "\n"];
  }), "\n");
  gutter.replaceChildren(...rows.map((_, number) => {
    const one = document.createElement("b");
    one.textContent = number + 1;
    const kind = worst.get(number + 1);
    if (kind) one.dataset[kind] = "";
    return one;
  }));
  follow();
}

function follow() {
  ink.scrollTop = gutter.scrollTop = field.scrollTop;
  ink.scrollLeft = field.scrollLeft;
}

// ── Check and start ────────────────────────────────────────────────────────────────────

/** What the server says of the text; null while it is away. */
async function post(address) {
  // Whoever signs in, in another tab too, gets a new token: the form's own may be of before.
  const token = /(?:^|; )csrftoken=([^;]*)/.exec(document.cookie)?.[1] ?? "";
  const headers = { "Content-Type": "application/yaml", "X-CSRFToken": token };
  try {
    const answer = await fetch(address, { method: "POST", headers, body: field.value });
    return { status: answer.status, told: await answer.json() };
  } catch {
    return null;
  }
}

async function check() {
  clearTimeout(timer);
  const mine = ++asked;
  const answer = await post("/api/validate");
  if (mine === asked) tell(answer);
}

/** By the API, so that nothing but a task that was made leads away from the text. */
async function start() {
  clearTimeout(timer);
  asked += 1;
  el("#start").disabled = true;
  const answer = await post("/api/train");
  if (answer?.status === MADE) {
    sessionStorage.removeItem(DRAFT);
    location.assign(`/tasks/${answer.told.task_id}`);
    return;
  }
  el("#start").disabled = false;
  tell(answer);
}

function tell(answer) {
  if (answer === null || answer.status === SIGNED_OUT) {
    el("#verdict").replaceChildren(...(answer ? signedOut() : ["The server is away; the check waits for it."]));
    timer = setTimeout(check, AGAIN_AFTER_MS);
  } else if (answer.told.error) {
    const { message, fields } = answer.told.error;
    show({ faults: fields ?? [{ message }], warnings: [], valid: false });
  } else {
    show(answer.told);
  }
}

function signedOut() {
  const link = document.createElement("a");
  link.href = "/sign-in";
  link.target = "_blank";
  link.textContent = "sign in in another tab";
  return ["You are signed out: ", link, ", your text stays."];
}

function show({ faults, warnings, valid, estimate }) {
  findings = [
    ...faults.map((one) => ({ ...one, kind: "fault" })),
    ...warnings.map((one) => ({ ...one, kind: "warning" })),
  ];
  el("#findings").replaceChildren(...findings.map(shown));
  el("#verdict").textContent = valid
    ? "This workflow can run."
    : `${faults.length} fault${faults.length === 1 ? "" : "s"}`;
  el("#estimate").replaceChildren(...(estimate ? facts(estimate) : []));
  paint();
}

function shown(one) {
  const item = document.createElement("li");
  if (one.kind === "warning") item.className = "warning";
  if (one.line) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = `line ${one.line}`;
    button.addEventListener("click", () => goTo(one.line, one.column ?? 1));
    item.append(button, " ");
  }
  if (one.path) {
    const code = document.createElement("code");
    code.textContent = plain(one.path);
    item.append(code, " ");
  }
  item.append(plain(one.message));
  if (one.hint) {
    const hint = document.createElement("small");
    hint.textContent = plain(one.hint);
    item.append(hint);
  }
  return item;
}

function goTo(line, column) {
  const before = field.value.split("\n").slice(0, line - 1);
  const at = before.reduce((sum, row) => sum + row.length + 1, 0) + column - 1;
  field.focus();
  field.setSelectionRange(at, at);
  field.scrollTop = Math.max((line - 8) * parseFloat(getComputedStyle(field).lineHeight), 0);
  follow();
}

const size = (bytes) =>
  bytes < 1024 ** 3 ? `${Math.round(bytes / 1024 ** 2)} MiB` : `${(bytes / 1024 ** 3).toFixed(1)} GiB`;
const span = (seconds) =>
  seconds < 90 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} minutes`;

function* facts({ rows, columns, memory_bytes: memory, memory_learned_from: runs, seconds }) {
  yield fact("Rows", `up to ${rows.toLocaleString("en")}`);
  if (columns) yield fact("Columns", columns);
  const learned = runs ? `, as ${runs} run${runs === 1 ? "" : "s"} like it` : "";
  if (memory) yield fact("Memory", `about ${size(memory)}${learned}`);
  const unknown = "not known before a run like it with as many rounds";
  yield fact("Time", seconds ? `about ${span(seconds)}` : unknown);
}

function fact(name, value) {
  const row = document.createElement("div");
  const term = document.createElement("dt");
  const said = document.createElement("dd");
  term.textContent = name;
  said.textContent = value;
  row.append(term, said);
  return row;
}

// ── Keys ───────────────────────────────────────────────────────────────────────────────

function insert(text) {
  // Through the browser's own editing, so that undo knows of it.
  if (!document.execCommand("insertText", false, text)) {
    field.setRangeText(text, field.selectionStart, field.selectionEnd, "end");
    field.dispatchEvent(new Event("input"));
  }
}

field.addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    leaving = true;
  } else if (event.key === "Tab" && !leaving && !event.shiftKey) {
    event.preventDefault();
    insert("  ");
  } else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    el("#start").click();
  } else if (event.key === "Enter" && !event.shiftKey) {
    const row = field.value.slice(0, field.selectionStart).split("\n").at(-1);
    event.preventDefault();
    insert(`\n${/^\s*/.exec(row)[0]}${/:\s*$/.test(row) ? "  " : ""}`);
  } else if (event.key !== "Tab" && event.key !== "Shift") {
    leaving = false;
  }
});

// ── Draft ──────────────────────────────────────────────────────────────────────────────

// What was typed outlives the page until it is started: a session that ended, another preset.
// It is its writer's: somebody else may sign in after them in the same tab.
const DRAFT = `draft of ${el(".who .name").textContent}`;

function keep() {
  if (field.value === field.defaultValue) sessionStorage.removeItem(DRAFT);
  else sessionStorage.setItem(DRAFT, JSON.stringify({ text: field.value, at: location.search }));
}

/** Where one comes back the draft stands in the field; beside another text it is offered. */
function restore() {
  const draft = JSON.parse(sessionStorage.getItem(DRAFT));
  if (!draft || draft.text === field.value) return;
  if (draft.at === location.search) {
    field.value = draft.text;
    offer("This is the text that you edited.", "Take the original", field.defaultValue);
  } else {
    offer("The text that you edited is kept.", "Take it back", draft.text);
  }
}

function offer(said, deed, text) {
  const button = el("#kept button");
  el("#kept span").textContent = said;
  button.textContent = deed;
  button.addEventListener("click", () => {
    field.focus();
    field.select();
    insert(text);
    el("#kept").hidden = true;
  });
  el("#kept").hidden = false;
}

field.addEventListener("input", () => {
  keep();
  paint();
  clearTimeout(timer);
  timer = setTimeout(check, CHECK_AFTER_MS);
});
field.addEventListener("scroll", follow);
for (const [button, deed] of [["#check", check], ["#start", start]]) {
  el(button).addEventListener("click", (event) => {
    event.preventDefault();
    deed();
  });
}
// A browser that goes back may show the page as it was left.
addEventListener("pageshow", () => {
  el("#start").disabled = false;
});
el("#editor").dataset.coloured = "";
el("#keys").hidden = false;
restore();
paint();
check();
