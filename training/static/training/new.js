// The editor: a plain text field over a coloured copy of its text, so that keyboard, search,
// undo and reading aloud stay the browser's own. It is checked while one types.
import { el, plain } from "./live.js";

const CHECK_AFTER_MS = 350;
const field = el("#workflow");
const ink = el("#editor .ink");
const gutter = el("#editor .lines");
const token = el("#new input[name=csrfmiddlewaretoken]").value;
let findings = [];
let asked = 0;
let timer = null;
let leaving = false;

// ── Colours ────────────────────────────────────────────────────────────────────────────

const KEY = /^(\s*(?:- )*)("[^"]*"|'[^']*'|[^\s#"'[\]{}&*!|>%@`-][^#:]*?|-[^\s#:][^#:]*?)(\s*:)(?=\s|$)/;
const WORD = /^(?:true|false|null|yes|no|on|off|~|<[A-Z_]+>)$/i;
const NUMBER = /^[-+]?(?:\d[\d_]*\.?\d*(?:e[-+]?\d+)?|\.\d+|\d{4}-\d\d-\d\d.*)$/i;
const PART = /("(?:[^"\\]|\\.)*"|'(?:[^']|'')*')|(\s#.*$|^#.*$)|([[\]{},])|([^\s[\]{},"']+)|(\s+)/g;

function piece(kind, text) {
  if (!kind) return text;
  const span = document.createElement("span");
  span.className = kind;
  span.textContent = text;
  return span;
}

function* coloured(line) {
  const key = KEY.exec(line);
  if (key) {
    yield key[1];
    yield piece("y-key", key[2]);
    yield key[3];
  }
  for (const part of line.slice(key ? key[0].length : 0).matchAll(PART)) {
    const [whole, text, comment, , word] = part;
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

// ── Check ──────────────────────────────────────────────────────────────────────────────

async function check() {
  const mine = ++asked;
  let answer;
  try {
    answer = await fetch("/api/validate", {
      method: "POST",
      headers: { "Content-Type": "application/yaml", "X-CSRFToken": token },
      body: field.value,
    });
  } catch {
    if (mine === asked) el("#verdict").textContent = "The server is away; the check waits for it.";
    timer = setTimeout(check, 3000);
    return;
  }
  const told = await answer.json();
  if (mine !== asked) return;
  if (told.error) {
    show({ faults: [{ message: told.error.message }], warnings: [], valid: false });
  } else {
    show(told);
  }
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
  if (memory) yield fact("Memory", `about ${size(memory)}`);
  yield fact("Time", seconds ? `about ${span(seconds)}` : "not known before a first run like it");
  if (runs) yield fact("Learned from", `${runs} run${runs === 1 ? "" : "s"} like it`);
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

field.addEventListener("input", () => {
  paint();
  clearTimeout(timer);
  timer = setTimeout(check, CHECK_AFTER_MS);
});
field.addEventListener("scroll", follow);
el("#check").addEventListener("click", (event) => {
  event.preventDefault();
  check();
});
el("#editor").dataset.coloured = "";
paint();
check();
