// Curves of several tasks over each other, each task in a colour of its own.
import { curveOrder, curveWords, draw, isIC, lines, paintSwatches, whenSeen } from "./charts.js";
import { anew, ask, el, plain, sleep } from "./live.js";

const ids = el("#compare").dataset.tasks.split(",");
const isDone = [...document.querySelectorAll("th[data-name]")].map((head) => head.dataset.status === "completed");
const names = [...document.querySelectorAll("th[data-name] a")].map((link) => link.textContent);
const plotlySource = document.querySelector("script[data-plotly]").dataset.plotly;
const POINTS = 6000;
const CURVE_POINTS = 600;
// Not every round's IC is measured: the dots are those that were.
const DOTS = { mode: "lines+markers", marker: { size: 4 } };

// Two tasks may have one name; a legend must not.
const said = ids.map((id, number) =>
  names.indexOf(names[number]) === names.lastIndexOf(names[number])
    ? plain(names[number])
    : `${plain(names[number])} (${id.slice(5, 9)})`);

/** What the API says of a task; nothing where it has nothing. */
async function told(id, what) {
  const { ok, text } = await ask(`/api/tasks/${id}/${what}`);
  return ok ? JSON.parse(text) : {};
}

// A task that is not completed has no report to ask for.
const reports = ids.map((id, number) => (isDone[number] ? told(id, `report?points=${POINTS}`) : {}));

/** Running sums; a day without a value has none, and a task without any has no curve. */
const added = (values) => {
  let sum = 0;
  return values.map((value) => (value === null ? null : (sum += value)));
};
const anyOf = (values) => values.some((value) => value !== null);

/** More names than these would leave no room; the table of metrics has each line's mark. */
const fits = (traces) => traces.length <= 4;

const CHARTS = {
  excess: [
    (r) => r.portfolio && [r.portfolio.days, r.portfolio.excess_with_cost],
    { title: "Excess return with cost, added up, not compounded", unit: "share" },
  ],
  drawdown: [
    (r) => r.portfolio && [r.portfolio.days, r.portfolio.drawdown_with_cost],
    { title: "Drawdown of the excess return", unit: "share" },
  ],
  rank_ic: [
    (r) => r.ic && anyOf(r.ic.rank_ic) && [r.ic.days, added(r.ic.rank_ic)],
    { title: "Rank IC by day, added up" },
  ],
};

for (const place of document.querySelectorAll("[data-chart]")) {
  whenSeen(place, async () => {
    const [series, what] = CHARTS[place.dataset.chart];
    const known = (await Promise.all(reports)).map(series);
    const traces = known.flatMap((found, number) =>
      found ? lines(found[0], { [said[number]]: found[1] }, { colorOf: number }) : []);
    if (traces.length) draw(place, plotlySource, traces, { ...what, legend: fits(traces) });
    else place.parentElement.hidden = place.hidden = true;
  });
}

whenSeen(el("#curves"), async () => {
  const curves = await Promise.all(ids.map((id) => told(id, `metrics?points=${CURVE_POINTS}`)));
  const measures = new Map();
  curves.forEach(({ results = [] }, number) => {
    for (const { name, step, value } of results) {
      if (/(^|\.)train/.test(name)) continue;
      if (!measures.has(name)) measures.set(name, new Map());
      const of = measures.get(name);
      if (!of.has(number)) of.set(number, { x: [], y: [] });
      of.get(number).x.push(step);
      of.get(number).y.push(value);
    }
  });
  for (const [name, of] of [...measures].sort(([one], [other]) => curveOrder(one, other))) {
    const place = document.createElement("div");
    place.className = "chart";
    const cell = document.createElement("div");
    cell.append(place);
    el("#curves").append(cell);
    const traces = [...of].flatMap(([number, { x, y }]) =>
      lines(x, { [said[number]]: y }, { colorOf: number, ...(isIC(name) ? DOTS : {}) }));
    draw(place, plotlySource, traces, { ...curveWords(plain(name)), legend: fits(traces) });
  }
  if (!measures.size) el("#curves").textContent = "None of them told of a curve.";
});

/** What a worker computes is there a little later. */
async function lookForCorrelation() {
  while (el("#correlation")?.dataset.state === "waiting") {
    await sleep(2000);
    const fresh = await anew("#correlation");
    if (!fresh) return;
    if (fresh.dataset.state !== "waiting") el("#correlation").replaceWith(fresh);
  }
}
lookForCorrelation();

const share = el("#share");
if (share && navigator.clipboard) {
  share.hidden = false;
  share.addEventListener("click", async () => {
    await navigator.clipboard.writeText(location.href);
    share.textContent = "Copied";
  });
}
paintSwatches();
