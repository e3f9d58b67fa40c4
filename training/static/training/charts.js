// Charts by plotly.js, loaded only where a chart comes into view, in the page's own colours.

import { insist } from "./live.js";

let loading = null;
const drawn = new Map();

/** plotly.js, once. source: its address. */
export function plotly(source) {
  loading ??= load(source);
  return loading;
}

function load(source) {
  // Plotly looks for this mark, and then writes no styles of its own: the page's policy
  // forbids them. What it needs is in pages.css.
  const mark = document.createElement("meta");
  mark.id = "plotly.js-style-global";
  mark.className = "no-inline-styles";
  document.head.append(mark);
  return insist(() => new Promise((done) => {
    const script = document.createElement("script");
    script.src = source;
    script.onload = () => done(window.Plotly);
    script.onerror = () => done(null);
    document.head.append(script);
  }));
}

/** Calls draw() once the element is about to be seen. */
export function whenSeen(element, draw) {
  const watcher = new IntersectionObserver(
    (entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      watcher.disconnect();
      draw();
    },
    { rootMargin: "400px" },
  );
  watcher.observe(element);
}

const COLOURS = {
  light: ["#0a666d", "#c2571a", "#6a4fb3", "#a92a6b", "#3f7d20", "#5b6670", "#9a6b00", "#0b5d9b"],
  dark: ["#5cc3cd", "#f0a35e", "#b7a1f2", "#f08fbd", "#9ad06f", "#a9b4bd", "#e5c15a", "#74b9f0"],
};

export const isDark = () =>
  (document.documentElement.dataset.theme
    ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";

const colours = () => COLOURS[isDark() ? "dark" : "light"];

function layout({ unit, rows, legend, bars, xTitle, level, dayTicks }) {
  const dark = isDark();
  const ink = dark ? "#9aa6b0" : "#545e66";
  const line = dark ? "#2a333c" : "#dfdacd";
  const axis = {
    gridcolor: line, linecolor: line, zerolinecolor: dark ? "#64707b" : "#8b8f8c",
    tickfont: { size: 11 }, automargin: true,
  };
  const isNarrow = innerWidth < 600;
  return {
    font: { family: "system-ui, sans-serif", size: 12, color: ink },
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 48, r: 12, t: 8, b: 34 }, colorway: colours(),
    hovermode: bars ? "closest" : "x unified",
    hoverlabel: { bgcolor: dark ? "#1d242b" : "#fffdf9", bordercolor: line, font: { color: dark ? "#e3e8ec" : "#1b2227" } },
    legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, xanchor: "left", font: { size: 11 } },
    xaxis: { ...axis, tickangle: 0, nticks: isNarrow ? 4 : undefined, title: xTitle ? { text: xTitle, font: { size: 11 } } : undefined, ...dayTicks },
    yaxis: { ...axis, range: aroundOf(level), ...(unit === "share" ? { tickformat: ",~r", hoverformat: ",.2f", ticksuffix: " %" } : {}) },
    showlegend: legend ?? rows > 1, barmode: "group", bargap: 0.04, uirevision: "kept",
  };
}

/** Plotly gives a constant an axis from 1 below it to 1 above, on which 0.002 looks like 0. */
const aroundOf = (level) => (level ? [level - Math.abs(level) / 2, level + Math.abs(level) / 2] : undefined);

/** The value of lines that have only one. */
function levelOf(traces) {
  if (traces.some(({ type }) => type !== "scatter")) return undefined;
  const values = traces.flatMap(({ y }) => y).filter((value) => value !== null);
  return values.every((value) => value === values[0]) ? values[0] : undefined;
}

const DAY_MS = 86_400_000;

/** Of a few days plotly marks the hours, of a month its days; nothing here has any. */
function dayTicksOf([{ x }]) {
  if (/^\d{4}-\d\d$/.test(x[0]) && x.length <= 6) return { tick0: x[0], dtick: "M1", tickformat: "%b %Y" };
  if (!/^\d{4}-\d\d-\d\d$/.test(x[0])) return undefined;
  const span = (Date.parse(x.at(-1)) - Date.parse(x[0])) / DAY_MS;
  if (span > 10) return undefined;
  return { tick0: x[0], dtick: Math.max(Math.ceil(span / (innerWidth < 600 ? 3 : 6)), 1) * DAY_MS, tickformat: "%b %-d\n%Y" };
}

const aboutOf = (what, traces) => ({
  ...what, rows: traces.length, level: levelOf(traces), dayTicks: dayTicksOf(traces),
});

/** Plotly reads tags in its texts; what people and trainings write is text, and nothing else. */
const text = (words) => words.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

/** A trace with its name, and the names along its axis, as mere text. */
function said(trace) {
  const named = { ...trace, name: text(String(trace.name ?? "")) };
  return trace.orientation === "h" ? { ...named, y: trace.y.map((one) => text(String(one))) } : named;
}

/** Shares are written in percent. */
const inUnit = (trace, unit) => (unit === "share"
  ? { ...trace, y: trace.y.map((value) => (value === null ? null : 100 * value)) }
  : trace);

/** Traces with `colorOf` keep their number's colour, whichever others are there. */
function coloured(traces, unit) {
  const own = colours();
  return traces.map(said).map((trace) => inUnit(trace, unit)).map(({ colorOf, ...trace }) => (colorOf === undefined
    ? trace
    : { ...trace, meta: { colorOf }, marker: { ...trace.marker, color: own[colorOf % own.length] }, line: { ...trace.line, color: own[colorOf % own.length], dash: DASHES[Math.floor(colorOf / own.length)] } }));
}

const DASHES = ["solid", "dash", "dot"];
const DASHED = ["solid", "dashed", "dotted"];

/** Marks beside names in the colours and dashes of their lines. */
export function paintSwatches() {
  const own = colours();
  for (const mark of document.querySelectorAll(".swatch")) {
    mark.style.borderTopColor = own[mark.dataset.number % own.length];
    mark.style.borderTopStyle = DASHED[Math.floor(mark.dataset.number / own.length)];
  }
}

/** Draws lines or bars. traces: plotly's; what: title, unit ("share"), bars, xTitle. */
export async function draw(element, source, traces, what) {
  const Plotly = await plotly(source);
  element.classList.remove("waiting");
  const shown = coloured(traces, what.unit);
  const about = aboutOf(what, shown);
  drawn.set(element, about);
  // Drag to zoom, double click to see all again; no bar of buttons.
  const config = { responsive: true, displayModeBar: false };
  entitle(element, what.title);
  await Plotly.newPlot(element, shown, layout(about), config);
  element.setAttribute("role", "img");
  element.setAttribute("aria-label", `Chart: ${what.title}. ${what.said ?? ""}`);
}

/** The title stands above the chart as text: it wraps where the screen is narrow. */
function entitle(element, title) {
  const words = document.createElement("div");
  words.className = "chart-title";
  words.textContent = title;
  element.before(words);
}

/** The same chart with other data; the reader's zoom stays. */
export async function redraw(element, source, traces, what) {
  if (!element.classList.contains("js-plotly-plot")) return draw(element, source, traces, what);
  const Plotly = await plotly(source);
  const shown = coloured(traces, what.unit);
  const about = aboutOf(what, shown);
  drawn.set(element, about);
  return Plotly.react(element, shown, layout(about));
}

/** Takes the chart away, with its title and the cell that holds both. */
export function erase(element) {
  if (drawn.delete(element)) window.Plotly.purge(element);
  element.parentElement.remove();
}

export const lines = (x, series, more = {}) =>
  Object.entries(series).map(([name, y]) => ({
    x, y, name, type: "scatter", mode: "lines", line: { width: 1.6 }, connectgaps: true, ...more,
  }));

/** Loss first, then IC, then what else a fit tells of. */
export const curveOrder = (one, other) => rankOf(one) - rankOf(other);
const rankOf = (name) => (/loss|l1|l2|mse|mae/i.test(name) ? 0 : isIC(name) ? 1 : 2);
export const isIC = (name) => /(^|[._])(rank_)?ic$/i.test(name);

// What fits tell of, in words; their own name where there is none. Rounds are those of boosters.
const MEASURES = {
  IC: ["IC and rank IC on the validation days", "round"],
  valid_ic: ["IC on the validation days", "round"],
  valid_rank_ic: ["Rank IC on the validation days", "round"],
  l2: ["Loss: mean squared error", "round"],
  rmse: ["Loss: root of the mean squared error", "round"],
  loss: ["Loss", "epoch or step"],
  score: ["Score", "epoch or step"],
  metric: ["Metric", "step"],
  lr: ["Learning rate", "step"],
  best_step: ["Best step so far", "step"],
};

/** Title and axis of the curves of one measure, such as "l2", "valid.l2" or "sub_2.IC". */
export function curveWords(measure) {
  const [, before, own] = /^(sub_\d+\.)?(.*)$/.exec(measure);
  const [, segment, bare] = /^(train\.|valid\.)?(.*)$/.exec(own);
  const [title, xTitle] = MEASURES[bare] ?? [bare, "step"];
  const of = [segment && { "train.": "training", "valid.": "validation" }[segment], before && `sub-model ${before.slice(4, -1)}`];
  const rest = of.filter(Boolean).join(", ");
  return { title: rest ? `${title} (${rest})` : title, xTitle };
}

addEventListener("themechange", async () => {
  if (!loading) return;
  const Plotly = await loading;
  for (const [element, about] of drawn) {
    const fresh = layout(about);
    Plotly.relayout(element, fresh);
    const own = colours();
    element.data.forEach((trace, number) => {
      const colour = own[(trace.meta?.colorOf ?? number) % own.length];
      Plotly.restyle(element, { "line.color": colour, "marker.color": colour }, [number]);
    });
  }
  paintSwatches();
});
