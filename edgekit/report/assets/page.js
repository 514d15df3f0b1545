"use strict";
document.documentElement.classList.add("js");

/* Sorting: every heading of the long table becomes a button. */
for (const table of document.querySelectorAll("table.rows")) {
  const body = table.tBodies[0], heads = [...table.querySelectorAll(".titles th")];
  const value = (row, i) => row.cells[i].dataset.sort ?? row.cells[i].textContent.trim();
  const empty = (text) => text === "-" || text === "";
  const compare = (a, b, numeric) => numeric ? a - b : a.localeCompare(b, "en", {numeric: true});
  heads.forEach((head, i) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending", numeric = head.classList.contains("n");
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const sorted = [...body.rows].sort((r, s) => {
        const a = value(r, i), b = value(s, i);
        if (empty(a) || empty(b)) return empty(a) - empty(b);
        return compare(a, b, numeric) * (up ? 1 : -1) || 0;
      });
      body.append(...sorted);
    });
  });
}

/* Paper shows what is behind the folds. */
const folds = () => document.querySelectorAll("details:not([open])");
addEventListener("beforeprint", () => folds().forEach((fold) => { fold.open = true; fold.dataset.printed = ""; }));
addEventListener("afterprint", () => document.querySelectorAll("[data-printed]").forEach((fold) => {
  fold.open = false;
  delete fold.dataset.printed;
}));

/* Filtering: the same rules for rows and for points. */
const form = document.querySelector("#all form.filters");
const chosen = () => Object.fromEntries(form ? new FormData(form) : []);
const passes = (rules, item) =>
  (!rules.name || item.name.toLowerCase().includes(rules.name.trim().toLowerCase())) &&
  ["target", "runtime", "precision"].every((key) => !rules[key] || rules[key] === item[key]) &&
  (!rules.front || item.front) && (!rules.valid || !item.invalid);

function filter() {
  const rules = chosen(), rows = [...document.querySelectorAll("table.rows tbody tr")];
  let shown = 0;
  for (const row of rows) {
    const {name, target, runtime, precision, front} = row.dataset;
    row.hidden = !passes(rules, {name, target, runtime, precision, front, invalid: row.classList.contains("invalid")});
    shown += !row.hidden;
  }
  form.querySelector("output").textContent = shown === rows.length ? `all ${shown} shown` : `${shown} of ${rows.length} shown`;
}

/* The plot. */
const canvas = document.getElementById("chart");
const data = canvas && JSON.parse(document.getElementById("points").textContent);
const scope = document.getElementById("scope"), axis = document.getElementById("axis");
const intervals = document.getElementById("intervals");
const details = document.getElementById("details");
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const width = () => canvas.parentElement.clientWidth; // the canvas itself has no size before it is drawn
let chart = null, current = null, order = [], fronted = new Set();

function showDetails(point) {
  if (current === point) return;
  current = point;
  details.replaceChildren();
  if (!point) return;
  const link = document.createElement("a");
  link.href = `#row-${point.row}`;
  link.textContent = point.name;
  link.addEventListener("click", (event) => { event.preventDefault(); visit(point); });
  details.append(link, `: ${point.figures.join(", ")}.`);
}

function visit(point) {
  const row = document.getElementById(`row-${point.row}`);
  if (row.hidden) { form.reset(); refresh(); }
  row.scrollIntoView({block: "center"});
  row.focus({preventScroll: true});
}

/* 95 % intervals, under the marks, if switched on. */
const whiskers = {
  id: "whiskers",
  beforeDatasetsDraw({ctx, chartArea: area, scales: {x, y}, data: {datasets}}) {
    if (!intervals.checked) return;
    ctx.save();
    ctx.beginPath();
    ctx.rect(area.left, area.top, area.width, area.height);
    ctx.clip();
    for (const set of datasets) {
      for (const {p} of set.data) {
        if (!p || p.invalid) continue;
        ctx.strokeStyle = set.borderColor;
        ctx.globalAlpha = 0.65;
        ctx.lineWidth = 1;
        ctx.beginPath();
        const left = x.getPixelForValue(p.x[axis.value]), top = y.getPixelForValue(p.y);
        ctx.moveTo(left, y.getPixelForValue(p.ys[0]));
        ctx.lineTo(left, y.getPixelForValue(p.ys[1]));
        if (axis.value === "p50") {
          ctx.moveTo(x.getPixelForValue(Math.max(p.xs[0], x.min)), top);
          ctx.lineTo(x.getPixelForValue(p.xs[1]), top);
        }
        ctx.stroke();
      }
    }
    ctx.restore();
  },
};

/* Names next to their marks, those on the front first; names without room are in the tooltip. */
const names = {
  id: "names",
  afterDatasetsDraw(drawn) {
    const {ctx, chartArea: area} = drawn, taken = [], marks = [];
    drawn.data.datasets.forEach((set, d) => set.data.forEach(({p}, i) => {
      const element = drawn.getDatasetMeta(d).data[i];
      if (p) marks.push({p, x: element.x, y: element.y, r: element.options.radius + (p.recommended ? 3 : 0),
        first: 2 * p.recommended + fronted.has(p)});
    }));
    for (const m of marks) taken.push([m.x - m.r, m.y - m.r, m.x + m.r, m.y + m.r]);
    marks.sort((a, b) => b.first - a.first);
    ctx.save();
    ctx.textBaseline = "middle";
    ctx.lineJoin = "round";
    for (const m of marks) {
      if (m.p.recommended) {
        ctx.strokeStyle = colour("good");
        ctx.lineWidth = 2.5;
        ctx.beginPath();
        ctx.arc(m.x, m.y, m.r + 2, 0, 2 * Math.PI);
        ctx.stroke();
      }
      ctx.font = `${m.first ? "600 " : ""}12px system-ui, sans-serif`;
      const name = m.p.name.length > 28 ? `${m.p.name.slice(0, 27)}…` : m.p.name;
      const text = m.p.recommended ? `${name} (recommended)` : name, wide = ctx.measureText(text).width;
      const inner = Math.min(Math.max(m.x - wide / 2, area.left + 2), area.right - wide - 2);
      const places = [[m.x + m.r + 4, m.y], [m.x - m.r - 4 - wide, m.y],
        [inner, m.y - m.r - 9], [inner, m.y + m.r + 9], [inner, m.y - m.r - 25], [inner, m.y + m.r + 25]];
      for (const [left, middle] of places) {
        const box = [left, middle - 7, left + wide, middle + 7];
        const inside = box[0] >= area.left && box[2] <= area.right && box[1] >= area.top && box[3] <= area.bottom;
        if (!inside || taken.some((t) => t[0] < box[2] + 2 && box[0] < t[2] + 2 && t[1] < box[3] && box[1] < t[3])) continue;
        taken.push(box);
        ctx.strokeStyle = colour("paper");
        ctx.lineWidth = 3;
        ctx.strokeText(text, left, middle);
        ctx.fillStyle = colour(m.p.recommended ? "good" : m.p.invalid ? "soft" : "ink");
        ctx.fillText(text, left, middle);
        break;
      }
    }
    ctx.restore();
  },
};

function sets(shown, picked) {
  const groups = new Map(), largest = Math.max(1, ...picked.points.map((p) => p.bytes));
  const most = Math.min(width() < 500 ? 10 : 16, Math.max(7, 70 / Math.sqrt(picked.points.length)));
  for (const p of shown) {
    const label = p.invalid ? "invalid, not ranked" : `${p.format} ${p.precision || "fp32"}${p.provenance === "measured" ? "" : `, ${p.provenance}`}`;
    if (!groups.has(label)) groups.set(label, []);
    groups.get(label).push(p);
  }
  return [...groups].map(([label, points]) => {
    const line = colour(points[0].invalid ? "soft" : points[0].colour);
    const radius = points.map((p) => Math.max(4, most * Math.sqrt(p.bytes / largest)));
    return {
      label, order: 1, data: points.map((p) => ({x: p.x[axis.value], y: p.y, p})),
      pointStyle: points.map((p) => p.style), borderColor: line, borderWidth: 1.75,
      backgroundColor: points[0].invalid ? "transparent" : `${line}44`,
      pointRadius: radius, pointHoverRadius: radius.map((r) => r + 2), hitRadius: 4,
    };
  });
}

function lines(picked) {
  return Object.entries(picked.fronts[axis.value]).filter(([, places]) => places.length).map(([provenance, places]) => {
    const at = places.map((i) => ({x: picked.points[i].x[axis.value], y: picked.points[i].y}));
    const right = Math.max(...picked.points.map((p) => p.x[axis.value] ?? 0));
    return {
      type: "line", label: `Pareto front${provenance === "measured" ? "" : `, ${provenance}`}`, order: 2,
      data: [...at, {x: right, y: at.at(-1).y}], stepped: "before", borderColor: colour("front"), borderWidth: 1.5,
      borderDash: provenance === "measured" ? [] : [2, 4], pointRadius: 0, pointHitRadius: 0, pointStyle: "line",
    };
  });
}

/* Ticks of a logarithmic axis: 1-2-5 if they fit, else powers of ten. */
function rounded(low, high, limit) {
  for (const mantissas of [[1, 2, 5], [1, 3], [1]]) {
    const ticks = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
      ticks.push(...mantissas.map((m) => +`${m}e${power}`).filter((value) => value >= low && value <= high));
    }
    if (ticks.length <= limit || mantissas.length === 1) return ticks.map((value) => ({value}));
  }
}

function draw() {
  const picked = data.scopes[scope.value], rules = {...chosen(), target: ""};
  const shown = picked.points.filter((p) => p.x[axis.value] !== null && passes(rules, p));
  const values = shown.map((p) => p.x[axis.value]), low = Math.min(...values), high = Math.max(...values);
  const log = low > 0 && high / low > 10, text = colour("soft"), grid = {color: colour("line"), drawTicks: false};
  const ends = shown.flatMap((p) => p.ys), spread = Math.max(...ends) - Math.min(...ends);
  /* Where all values are one, the axis is wide enough that its ticks differ. */
  const margin = spread > 1e-9 ? spread * 0.05 + 1e-6 : Math.max(Math.abs(ends[0]) * 0.05, 0.01);
  const narrow = width() < 500;
  const title = (words) => ({display: true, text: words, color: colour("ink"), font: {weight: 600}});
  order = [...shown].sort((a, b) => a.x[axis.value] - b.x[axis.value]);
  fronted = new Set(Object.values(picked.fronts[axis.value]).flat().map((i) => picked.points[i]));
  for (const figure of document.querySelectorAll("figure[data-scope]")) figure.hidden = figure.dataset.scope !== scope.value;
  showDetails(null);
  chart?.destroy();
  chart = new Chart(canvas, {
    type: "scatter",
    data: {datasets: [...sets(shown, picked), ...lines(picked)]},
    plugins: [whiskers, names],
    options: {
      animation: false, responsive: true, maintainAspectRatio: false, layout: {padding: {right: 12}},
      interaction: {mode: "nearest", intersect: true},
      onHover: (event, elements) => {
        const hit = elements.map((f) => chart.data.datasets[f.datasetIndex].data[f.index].p).find(Boolean);
        if (hit) showDetails(hit);
      },
      scales: {
        x: {
          type: log ? "logarithmic" : "linear", title: title(`${data.axes[axis.value]}${log ? ", log scale" : ""}`), grid,
          ...(values.length ? (log ? {min: low / 1.4, max: high * 1.4}
            : {min: Math.max(0, low - (high - low) * 0.12 - low * 0.02), max: high + (high - low) * 0.12 + high * 0.02}) : {}),
          ...(log ? {afterBuildTicks: (scale) => { scale.ticks = rounded(scale.min, scale.max, narrow ? 4 : 8); }} : {}),
          ticks: {color: text, maxRotation: 0, autoSkipPadding: 14, padding: 6, maxTicksLimit: narrow ? 4 : 8,
            includeBounds: false, callback: (value) => +value.toPrecision(3)},
        },
        y: {
          title: title(picked.y), grid,
          /* The axis holds the intervals even where they are not drawn: noise looks as small as it is. */
          ...(ends.length ? {min: Math.min(...ends) - margin, max: Math.max(...ends) + margin} : {}),
          ticks: {color: text, padding: 6, maxTicksLimit: 8, includeBounds: false, callback: (value) => +value.toPrecision(4)},
        },
      },
      plugins: {
        legend: {position: "top", align: "start", labels: {color: text, usePointStyle: true, boxHeight: 8, padding: narrow ? 7 : 12, font: {size: narrow ? 11 : 12}}},
        tooltip: {
          filter: (item) => Boolean(item.raw.p), usePointStyle: true, displayColors: false, caretPadding: 8,
          callbacks: {title: (items) => items.map((item) => item.raw.p.name).join(", "), label: (item) => item.raw.p.figures},
        },
      },
    },
  });
}

function highlight(point) {
  const elements = [];
  chart.data.datasets.forEach((set, datasetIndex) => set.data.forEach(({p}, index) => {
    if (p && p === point) elements.push({datasetIndex, index});
  }));
  chart.setActiveElements(elements);
  const element = elements.length ? chart.getDatasetMeta(elements[0].datasetIndex).data[elements[0].index] : {x: 0, y: 0};
  chart.tooltip.setActiveElements(elements, {x: element.x, y: element.y});
  chart.update("none");
  showDetails(point);
}

function refresh() {
  if (form) filter();
  if (canvas) draw();
}

if (form) {
  form.addEventListener("input", refresh);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(refresh));
  form.elements.target?.addEventListener("input", () => {
    const index = canvas ? data.scopes.findIndex((s) => s.target === form.elements.target.value) : -1;
    if (index >= 0) scope.value = index;
  });
}
if (canvas) {
  canvas.closest("figure").hidden = false;
  for (const control of [scope, axis, intervals]) control.addEventListener("input", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  canvas.addEventListener("keydown", (event) => {
    const step = {ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1}[event.key], at = order.indexOf(current);
    const to = {Home: 0, End: order.length - 1}[event.key] ?? (step && (at < 0 ? 0 : at + step));
    if (event.key === "Escape") highlight(null);
    else if (event.key === "Enter" && current) visit(current);
    else if (to !== undefined && order[to]) highlight(order[to]);
    else if (to === undefined) return;
    event.preventDefault();
  });
}
refresh();
