// One task, alive: each event replaces what it tells of; curves grow, the log (log.js) is followed.
import { curveOrder, curveWords, draw, erase, lines, redraw, whenSeen } from "./charts.js";
import { anew, ask, el, listen, percent, plain, serverClock, soon } from "./live.js";
import { log } from "./log.js";

const page = el("#task");
const id = page.dataset.task;
const plotlySource = document.querySelector("script[data-plotly]").dataset.plotly;
const FINAL = new Set(["completed", "failed", "cancelled"]);
const CURVE_POINTS = 1500;
const SHOWN_POINTS = 4000;
const RELOAD_AFTER_MS = 400;
const TICK_MS = 1000;
const SHOWN_START_S = 1;
const WAITS_AFTER_MS = 300;
const LOOK_EVERY_MS = 15000;

let seq = Number(page.dataset.seq);
const clock = serverClock(page.dataset.now);
const wasFinal = FINAL.has(page.dataset.status);

const said = (seconds) => {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes} m ${String(whole % 60).padStart(2, "0")} s`;
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} m`;
};

// ── State ──────────────────────────────────────────────────────────────────────────────

function show(told) {
  page.dataset.status = told.status;
  el("#status").textContent = told.status;
  el("#status").dataset.status = el("#bar").dataset.status = told.status;
  el("#progress").value = told.progress;
  el("#percent").textContent = percent(told.progress);
  el("#message").textContent = plain(told.message ?? "");
  if (told.status !== "running") clearProgress();
  el("#finish").hidden = !(told.status === "running" && told.stage === "fit");
  el("#cancel").hidden = FINAL.has(told.status);
  if (told.attempt) el("#attempt").textContent = told.attempt;
}

function showProgress({ data, stage }) {
  // A report may come from a stage that is over by now.
  if (data.stage !== stage) return;
  el("#count").textContent = data.done && data.total ? `${data.unit ?? ""} ${data.done} of ${data.total}` : "";
  el("#eta").textContent = leftOf(data);
}

/** As `timeline.py` words it. */
function leftOf({ eta_s: ofAll, stage_eta_s: here, stage }) {
  if (ofAll != null) return `${said(ofAll)} left`;
  return here == null ? "" : `up to ${said(here)} left in ${stage}`;
}

function clearProgress() {
  el("#count").textContent = el("#eta").textContent = "";
}

/** Only what was heard: a stage that was passed while nobody listened keeps no time.
 * at: when it was entered, if that was heard. */
function showStage(stage, at = "") {
  let reached = false;
  for (const step of document.querySelectorAll(".stages li")) {
    if (step.dataset.stage === stage) {
      reached = true;
      if (step.dataset.state !== "now") clearProgress();
      if (at || step.dataset.state !== "now") step.dataset.since = at;
      step.dataset.state = "now";
    } else if (!reached) {
      if (at && step.dataset.state === "now") showTime(step, Date.parse(at));
      if (step.dataset.state !== "skipped") step.dataset.state = "done";
    } else {
      step.dataset.state = "waiting";
      step.querySelector("small").textContent = "";
    }
  }
}

/** at: until when it has run, in the server's time. */
function showTime(step, at) {
  const { since } = step.dataset;
  const seconds = Math.max((at - Date.parse(since)) / 1000, 0);
  step.querySelector("small").textContent = since ? said(seconds) : "";
  if (step.dataset.stage === "start") step.hidden = !since || seconds < SHOWN_START_S;
}

setInterval(() => {
  const step = el('.stages [data-state="now"]');
  if (step) showTime(step, clock.now());
}, TICK_MS);

function clearStages() {
  for (const step of document.querySelectorAll(".stages li")) {
    step.dataset.state = "waiting";
    step.dataset.since = step.querySelector("small").textContent = "";
    step.hidden = step.dataset.stage === "start";
  }
}

/** A part of the page as the server has it now. */
async function renew(selector) {
  const fresh = await anew(selector);
  if (fresh) el(selector).replaceChildren(...fresh.childNodes);
}

/** What the server says of lost attempts, and of the task's place in its queue. */
const showWaits = soon(() => renew("#waits"), WAITS_AFTER_MS);

setInterval(() => {
  if (page.dataset.status === "pending" && !document.hidden) showWaits();
}, LOOK_EVERY_MS);

function giveBack() {
  clearStages();
  el("#worker").textContent = "–";
  showWaits();
}

function startOver(told) {
  page.dataset.attempt = told.attempt;
  clearProgress();
  clearStages();
  if (told.type === "started") showStage("start", told.timestamp);
  const worker = told.data.worker ?? told.data.task?.worker;
  if (worker) el("#worker").textContent = worker;
  curves.clear();
  el(".curve-ends")?.remove();
  log.reset();
  showWaits();
  renew("#ran");
}

// ── Curves ─────────────────────────────────────────────────────────────────────────────

const curves = {
  known: new Map(),
  charts: new Map(),
  dirty: false,

  add(points) {
    for (const { name, step, value } of points) {
      if (!this.known.has(name)) this.known.set(name, { x: [], y: [] });
      const curve = this.known.get(name);
      if (value === null || (curve.x.length && step <= curve.x.at(-1))) continue;
      curve.x.push(step);
      curve.y.push(value);
    }
    if (points.length && !this.dirty) {
      this.dirty = true;
      setTimeout(() => this.show(), 250);
    }
  },

  clear() {
    this.known.clear();
    for (const place of this.charts.values()) erase(place);
    this.charts.clear();
    this.show();
  },

  /** Every so many of a long curve, and always its newest: a chart must not freeze the page. */
  shown({ x, y }) {
    const stride = Math.ceil(x.length / SHOWN_POINTS);
    if (stride <= 1) return { x: [...x], y: [...y] };
    const kept = (_, number) => number % stride === 0 || number === x.length - 1;
    return { x: x.filter(kept), y: y.filter(kept) };
  },

  /** Train and valid of one measure share a chart; IC and rank IC share another. */
  groupOf(name) {
    const measure = name.replace(/(^|\.)(train|valid|test)[._/ ]/, "$1");
    return measure.replace(/(^|[._])(rank_)?ic$/i, "$1IC");
  },

  show() {
    this.dirty = false;
    el("#no-curves").hidden = this.known.size > 0;
    const groups = new Map();
    for (const [name, curve] of this.known) {
      const group = this.groupOf(name);
      if (!groups.has(group)) groups.set(group, {});
      groups.get(group)[plain(name)] = this.shown(curve);
    }
    for (const [group, members] of [...groups].sort(([one], [other]) => curveOrder(one, other))) {
      const isIC = group.endsWith("IC");
      const traces = Object.entries(members).map(([name, { x, y }]) => ({
        ...lines(x, { [name]: y })[0],
        // Not every round's IC is measured: the dots are those that were.
        mode: isIC ? "lines+markers" : x.length < 2 ? "markers" : "lines",
        marker: { size: 4 },
      }));
      const what = curveWords(plain(group));
      if (!this.charts.has(group)) {
        const place = document.createElement("div");
        place.className = "chart waiting";
        place.dataset.waiting = "loading…";
        // The chart's title comes to stand before it, in the same cell.
        const cell = document.createElement("div");
        cell.append(place);
        el("#curves").append(cell);
        this.charts.set(group, place);
      }
      const place = this.charts.get(group);
      if (place.classList.contains("js-plotly-plot")) {
        redraw(place, plotlySource, traces, what);
      } else if (!place.dataset.asked) {
        place.dataset.asked = "yes";
        whenSeen(place, async () => {
          await draw(place, plotlySource, traces, what);
          this.show();
        });
      }
    }
  },

  async load() {
    const { attempt } = page.dataset;
    const { ok, text } = await ask(`/api/tasks/${id}/metrics?points=${CURVE_POINTS}`);
    // What an attempt has told that is over by now is of no use.
    if (!ok || attempt !== page.dataset.attempt) return;
    const { results } = JSON.parse(text);
    // What came over the socket meanwhile is newer than this answer, or in it.
    const heard = new Map(this.known);
    this.known.clear();
    this.add(results);
    for (const [name, { x, y }] of heard) {
      this.add(x.map((step, number) => ({ name, step, value: y[number] })));
    }
  },
};

// ── Report ─────────────────────────────────────────────────────────────────────────────

const GREY = { line: { width: 1.2, dash: "dot" } };

const GROUPS = { 1: "group 1 (highest scores)", 5: "group 5 (lowest)" };

const REPORT = {
  return: (r) => r.portfolio && [
    [...lines(r.portfolio.days, {
      "with cost": r.portfolio.return_with_cost,
      "without cost": r.portfolio.return_without_cost,
    }), ...lines(r.portfolio.days, { benchmark: r.portfolio.benchmark }, GREY)],
    { title: "Return, added up, not compounded", unit: "share" },
  ],
  excess: (r) => r.portfolio && [
    lines(r.portfolio.days, {
      "with cost": r.portfolio.excess_with_cost,
      "without cost": r.portfolio.excess_without_cost,
    }),
    { title: "Excess return over the benchmark, added up, not compounded", unit: "share" },
  ],
  drawdown: (r) => r.portfolio && [
    [
      ...lines(r.portfolio.days, { "with cost": r.portfolio.drawdown_with_cost }, { fill: "tozeroy", line: { width: 1 } }),
      ...lines(r.portfolio.days, { "without cost": r.portfolio.drawdown_without_cost }, { line: { width: 1 } }),
    ],
    { title: "Drawdown of the excess return", unit: "share" },
  ],
  turnover: (r) => r.portfolio && [
    lines(r.portfolio.days, { turnover: r.portfolio.turnover }, { line: { width: 1 } }),
    { title: "Turnover by day", unit: "share" },
  ],
  ic: (r) => r.ic && [
    lines(r.ic.days, { IC: r.ic.ic, "rank IC": r.ic.rank_ic }, { line: { width: 1 } }),
    { title: "IC by day" },
  ],
  months: (r) => r.ic && [
    ["ic", "rank_ic"].map((name) => ({
      type: "bar", x: r.ic.by_month.months, y: r.ic.by_month[name],
      name: name === "ic" ? "IC" : "rank IC", opacity: 0.75,
    })),
    { title: "IC by month", bars: true },
  ],
  distribution: (r) => r.ic?.distribution?.edges.length > 0 && [
    // Outlines: of two filled histograms over each other one sees neither.
    lines(r.ic.distribution.ic.map((_, n) =>
      (r.ic.distribution.edges[n] + r.ic.distribution.edges[n + 1]) / 2), {
      IC: r.ic.distribution.ic, "rank IC": r.ic.distribution.rank_ic,
    }, { line: { width: 1.6, shape: "hvh" } }),
    { title: "Distribution of the daily IC (days)" },
  ],
  groups: (r) => r.groups && [
    [
      ...lines(r.groups.days, Object.fromEntries(
        Object.entries(r.groups.groups).map(([n, y]) => [GROUPS[n] ?? `group ${n}`, y]))),
      ...lines(r.groups.days, { "long-short": r.groups.long_short, "long-average": r.groups.long_average }, GREY),
    ],
    r.label_is_return
      ? { title: "Return of five groups by score, added up, not compounded", unit: "share" }
      : { title: "Label of five groups by score, added up" },
  ],
  importance: (r) => r.feature_importance && [
    [{
      type: "bar", orientation: "h", name: r.feature_importance.kind,
      x: r.feature_importance.values.slice(0, 20).reverse(),
      y: r.feature_importance.features.slice(0, 20).reverse().map(plain),
    }],
    { title: `Feature ${r.feature_importance.kind}, the first 20`, bars: true, xTitle: r.feature_importance.unit },
  ],
};

function showReport(places) {
  let report = null;
  const load = () => {
    report ??= ask(`/api/tasks/${id}/report?points=6000`)
      .then(({ ok, text }) => (ok ? JSON.parse(text) : {}));
    return report;
  };
  for (const place of places) {
    whenSeen(place, async () => {
      const chart = REPORT[place.dataset.chart](await load());
      if (chart) draw(place, plotlySource, ...chart);
      else place.parentElement.hidden = place.hidden = true;
    });
  }
}

showReport(document.querySelectorAll("[data-chart]"));

// ── Live ───────────────────────────────────────────────────────────────────────────────

const HEARD = {
  started: startOver,
  requeued: giveBack,
  stage: (told) => showStage(told.data.stage, told.timestamp),
  progress: showProgress,
  metric: (told) => curves.add(told.data.points),
  log: (told) => log.hear(told.data),
};

/** The task as it is now, for all that was told while nobody listened. */
function takeSnapshot(told) {
  seq = told.seq;
  show(told);
  if (reloadIfOver(told.status)) return;
  if (String(told.attempt) !== page.dataset.attempt) startOver(told);
  if (told.status === "running") showStage(told.stage);
  curves.load();
  log.catchUp();
  showWaits();
}

/** The result, the error and the report come from the server as they will always be shown. */
function reloadIfOver(status) {
  const isOver = FINAL.has(status) && !wasFinal;
  if (isOver) setTimeout(reload, RELOAD_AFTER_MS);
  return isOver;
}

// What one reads stays where it is, though the result comes to stand above it.
const PLACE = `place on ${id}`;

function reload() {
  const parts = [...document.querySelectorAll("#task section[aria-labelledby]")];
  const part = parts.find((one) => one.getBoundingClientRect().bottom > 0);
  const name = scrollY > 0 ? part?.getAttribute("aria-labelledby") : "";
  const top = part?.getBoundingClientRect().top;
  sessionStorage.setItem(PLACE, JSON.stringify({ name, top, wanted: log.wanted }));
  if (name) history.scrollRestoration = "manual";
  location.reload();
}

async function comeBack() {
  const kept = JSON.parse(sessionStorage.getItem(PLACE));
  sessionStorage.removeItem(PLACE);
  if (kept?.wanted) {
    el("#log-search").value = kept.wanted;
    log.search(kept.wanted);
  }
  await curves.load();
  const part = kept?.name && el(`[aria-labelledby="${kept.name}"]`);
  if (!part) return;
  // Their charts' room, which lies above the log.
  curves.show();
  scrollBy(0, part.getBoundingClientRect().top - kept.top);
  history.scrollRestoration = "auto";
}

function heard(told, socket) {
  if (told.type === "snapshot") {
    takeSnapshot(told);
    return;
  }
  if (told.seq <= seq) return;
  if ((told.from_seq ?? told.seq) > seq + 1) {
    socket.send(JSON.stringify({ type: "sync", after: seq }));
    return;
  }
  seq = told.seq;
  clock.hear(told.timestamp);
  if (told.type === "deleted") {
    location.assign("/");
    return;
  }
  show(told);
  HEARD[told.type]?.(told);
  reloadIfOver(told.type);
}

comeBack();
listen(`/ws/train/${id}`, { place: () => `after=${seq}`, heard });
