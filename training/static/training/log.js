// A task's log: followed as it grows, and searched as a whole.
import { ask, el, plain, soon } from "./live.js";

const CHARS_SHOWN = 600_000;
const LINES_FOUND_SHOWN = 1000;
const SEARCH_AFTER_MS = 250;
const END_PX = 24;

const page = el("#task");

export const log = {
  place: el("#log"),
  /** Bytes: where the text begins, and where it goes on. */
  begins: Number(page.dataset.logBegins),
  next: Number(page.dataset.logNext),
  text: el("#log").textContent,
  shownChars: 0,
  wanted: "",
  isAsking: false,
  isBehind: false,

  reset() {
    this.begins = this.next = 0;
    this.text = "";
    this.show();
  },

  hear(part) {
    if (part.offset > this.next) this.catchUp();
    else this.take(part);
  },

  /** Adds what of the part is new. offset, size: bytes of the log. */
  take({ offset, size, text }) {
    if (offset + size <= this.next) return;
    const known = this.next - offset;
    this.next = offset + size;
    this.append(plain(known > 0 ? withoutBytes(text, known) : text));
  },

  append(text) {
    el("#log-panel").hidden = false;
    this.text += text;
    this.shownChars += text.length;
    if (this.wanted) this.showSoon();
    else if (this.shownChars > CHARS_SHOWN) this.show();
    else {
      this.place.append(text);
      this.follow();
    }
  },

  /** Asks for what follows, part by part, until nothing does; once more if more was heard of. */
  async catchUp() {
    this.isBehind = true;
    if (this.isAsking) return;
    this.isAsking = true;
    while (this.isBehind) {
      this.isBehind = false;
      this.isBehind = await this.askForMore() || this.isBehind;
    }
    this.isAsking = false;
    if (this.wanted) this.showSoon();
  },

  /** Takes the next part; whether more may follow it. */
  async askForMore() {
    const { attempt } = page.dataset;
    if (attempt === "0") return false;
    const asked = this.next;
    const { ok, headers, text } = await ask(
      `/api/tasks/${page.dataset.task}/log?attempt=${attempt}&offset=${asked}`);
    if (!ok) return false;
    const offset = Number(headers.get("X-Log-Offset"));
    const size = Number(headers.get("X-Log-Next-Offset")) - offset;
    // Meanwhile another attempt has begun, or the whole log was asked for.
    if (attempt !== page.dataset.attempt || this.next < asked) return true;
    this.take({ offset, size, text });
    return size > 0 && headers.get("X-Log-Complete") !== "true";
  },

  /** A search is of the whole log: the page came with its end. */
  search(wanted) {
    this.wanted = wanted;
    if (wanted && this.begins > 0) {
      this.begins = this.next = 0;
      this.text = "";
      this.catchUp();
    }
    this.showSoon();
  },

  show() {
    if (this.wanted) {
      this.showFound();
    } else {
      const tail = this.text.length > CHARS_SHOWN
        ? this.text.slice(this.text.indexOf("\n", this.text.length - CHARS_SHOWN / 2) + 1)
        : this.text;
      this.place.textContent = tail;
      this.shownChars = tail.length;
    }
    this.follow();
  },

  showFound() {
    const wanted = this.wanted.toLowerCase();
    const found = this.text.split("\n").filter((one) => one.toLowerCase().includes(wanted));
    const shown = found.slice(-LINES_FOUND_SHOWN);
    this.place.replaceChildren(...shown.flatMap((one) => [...marked(one, wanted), "\n"]));
    if (found.length > shown.length) {
      this.place.prepend(`The last ${shown.length} of ${found.length} lines that have that:\n`);
    } else if (!found.length) {
      this.place.textContent = this.isAsking ? "Reading the log…" : "No line has that.";
    }
  },

  follow() {
    if (el("#log-follow input").checked) this.place.scrollTop = this.place.scrollHeight;
  },
};

log.shownChars = log.text.length;
log.showSoon = soon(async () => log.show(), SEARCH_AFTER_MS);

/** The text without its first bytes, as the log counts them. */
function withoutBytes(text, count) {
  return new TextDecoder().decode(new TextEncoder().encode(text).subarray(count));
}

function* marked(line, wanted) {
  const low = line.toLowerCase();
  let from = 0;
  for (let at = low.indexOf(wanted); at >= 0; at = low.indexOf(wanted, from)) {
    yield line.slice(from, at);
    const mark = document.createElement("mark");
    mark.textContent = line.slice(at, at + wanted.length);
    yield mark;
    from = at + wanted.length;
  }
  yield line.slice(from);
}

el("#log-search").hidden = el("#log-follow").hidden = false;
el("#log-search").addEventListener("input", (event) => {
  log.search(event.target.value);
});
el("#log-follow input").addEventListener("change", () => log.follow());
// By wheel, keys, touch or the bar: who reads further up is left there, and followed again at the end.
log.place.addEventListener("scroll", () => {
  const { scrollHeight, scrollTop, clientHeight } = log.place;
  if (scrollHeight > clientHeight) {
    el("#log-follow input").checked = scrollHeight - scrollTop - clientHeight < END_PX;
  }
});
log.follow();
