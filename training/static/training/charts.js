// Charts by plotly.js, loaded only where a chart comes into view, in the page's own colours.

let loading = null;
const drawn = new Set();

/** plotly.js, once. source: its address. */
export function plotly(source) {
  loading ??= new Promise((done, failed) => {
    // Plotly looks for this mark, and then writes no styles of its own: the page's policy
    // forbids them. What it needs is in pages.css.
    const mark = document.createElement("meta");
    mark.id = "plotly.js-style-global";
    mark.className = "no-inline-styles";
    document.head.append(mark);
    const script = document.createElement("script");
    script.src = source;
    script.onload = () => done(window.Plotly);
    script.onerror = () => failed(new Error("plotly.js could not be loaded"));
    document.head.append(script);
  });
  return loading;
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

function layout({ title, unit, rows, bars, stacked, xTitle, range }) {
  const dark = isDark();
  const ink = dark ? "#9aa6b0" : "#545e66";
  const line = dark ? "#2a333c" : "#dfdacd";
  const axis = {
    gridcolor: line, linecolor: line, zerolinecolor: dark ? "#64707b" : "#8b8f8c",
    tickfont: { size: 11 }, automargin: true,
  };
  return {
    title: { text: text(title), x: 0, xanchor: "left", xref: "paper", font: { size: 13, color: dark ? "#e3e8ec" : "#1b2227" }, y: 0.98, yanchor: "top" },
    font: { family: "system-ui, sans-serif", size: 12, color: ink },
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 48, r: 12, t: 34, b: 34 }, colorway: colours(),
    hovermode: bars ? "closest" : "x unified",
    hoverlabel: { bgcolor: dark ? "#1d242b" : "#fffdf9", bordercolor: line, font: { color: dark ? "#e3e8ec" : "#1b2227" } },
    legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 1, xanchor: "right", font: { size: 11 } },
    xaxis: { ...axis, title: xTitle ? { text: xTitle, font: { size: 11 } } : undefined, range },
    yaxis: { ...axis, tickformat: unit === "share" ? ".1%" : undefined },
    showlegend: rows > 1, barmode: stacked ? "overlay" : "group", bargap: 0.04, uirevision: "kept",
  };
}

/** Plotly reads tags in its texts; what people and trainings write is text, and nothing else. */
const text = (words) => words.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

/** A trace with its name, and the names along its axis, as mere text. */
function said(trace) {
  const named = { ...trace, name: text(String(trace.name ?? "")) };
  return trace.orientation === "h" ? { ...named, y: trace.y.map((one) => text(String(one))) } : named;
}

/** Traces with `colorOf` keep their number's colour, whichever others are there. */
function coloured(traces) {
  const own = colours();
  return traces.map(said).map(({ colorOf, ...trace }) => (colorOf === undefined
    ? trace
    : { ...trace, meta: { colorOf }, line: { ...trace.line, color: own[colorOf % own.length], dash: DASHES[Math.floor(colorOf / own.length)] } }));
}

const DASHES = ["solid", "dash", "dot"];

/** Marks beside names in the colours of their lines. */
export function paintSwatches() {
  for (const mark of document.querySelectorAll(".swatch")) {
    mark.style.background = colours()[mark.dataset.number % colours().length];
  }
}

/** Draws lines or bars. traces: plotly's; what: title, unit ("share"), bars, xTitle. */
export async function draw(element, source, traces, what) {
  const Plotly = await plotly(source);
  element.classList.remove("waiting");
  const about = { ...what, rows: traces.length };
  drawn.add({ element, about });
  // Drag to zoom, double click to see all again; no bar of buttons.
  const config = { responsive: true, displayModeBar: false };
  await Plotly.newPlot(element, coloured(traces), layout(about), config);
  element.setAttribute("role", "img");
  element.setAttribute("aria-label", `Chart: ${what.title}. ${what.said ?? ""}`);
}

/** The same chart with other data; the reader's zoom stays. */
export async function redraw(element, source, traces, what) {
  if (!element.classList.contains("js-plotly-plot")) return draw(element, source, traces, what);
  const Plotly = await plotly(source);
  return Plotly.react(element, coloured(traces), layout({ ...what, rows: traces.length }));
}

export const lines = (x, series, more = {}) =>
  Object.entries(series).map(([name, y]) => ({
    x, y, name, type: "scatter", mode: "lines", line: { width: 1.6 }, connectgaps: true, ...more,
  }));

addEventListener("themechange", async () => {
  if (!loading) return;
  const Plotly = await loading;
  for (const { element, about } of drawn) {
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
