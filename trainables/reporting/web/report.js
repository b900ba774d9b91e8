"use strict";
// Sorts tables, shows the details of a trial, and filters the table of all trials by parallel coordinates.

const report = JSON.parse(document.getElementById("data").textContent);

function element(tag, text = "", attributes = {}) {
  const created = document.createElement(tag);
  created.textContent = text;
  for (const [name, value] of Object.entries(attributes)) created.setAttribute(name, value);
  return created;
}

// Tables

for (const button of document.querySelectorAll("th button")) button.addEventListener("click", () => {
  const head = button.parentElement, column = head.cellIndex, body = head.closest("table").tBodies[0];
  const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  for (const other of head.parentElement.cells) other.setAttribute("aria-sort", "none");
  head.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
  const key = row => row.cells[column].dataset.value ?? row.cells[column].textContent;
  const compare = (a, b) => {
    if (!a || !b) return (a ? 0 : 1) - (b ? 0 : 1);  // empty cells stay last in both directions
    return sign * (isNaN(a - b) ? a.localeCompare(b, "en", {numeric: true}) : a - b);
  };
  body.append(...[...body.rows].sort((a, b) => compare(key(a), key(b))));
});

const rows = new Map();  // rows of the table of all trials, by trial number
for (const table of document.querySelectorAll("table")) {
  if (table.tHead.rows[0].cells[0].textContent !== "trial") continue;
  const isAll = table.closest("section").getAttribute("aria-labelledby") === "trials";
  for (const row of table.tBodies[0].rows) {
    const number = row.cells[0].dataset.value;
    if (!(number in report.trials)) continue;
    const button = element("button", number, {type: "button", class: "trial", "aria-haspopup": "dialog"});
    button.setAttribute("aria-label", `trial ${number}: details`);
    button.addEventListener("click", () => show(number, button));
    row.cells[0].replaceChildren(button);
    if (isAll) rows.set(number, row);
  }
}

// Details of a trial

const dialog = document.getElementById("one");
let opener = null;

function digits(value) {
  if (typeof value !== "number" || Number.isInteger(value)) return String(value);
  return Math.abs(value) >= 1e-3 && Math.abs(value) < 1e5 ? String(+value.toPrecision(5)) : value.toExponential(3);
}

function counted(count, one) { return `${count} ${one}${count === 1 ? "" : "s"}`; }

// A number for people, with a minus sign; settings keep their hyphen, with which they can be typed.
function readable(text) { return text.replace(/^-/, "\u2212"); }

function pairs(of, format = digits) {
  const list = element("dl");
  for (const [name, value] of Object.entries(of)) list.append(element("dt", name), element("dd", format(value)));
  return list;
}

function folded(title, of, format = digits) {
  const box = element("details");
  box.append(element("summary", title), pairs(of, format));
  return box;
}

function numbers(trial) {
  const table = element("table"), confirmed = trial.confirmed, head = table.createTHead().insertRow();
  for (const name of ["", "sweep", ...(confirmed ? ["confirmed"] : [])]) head.append(element("th", name, {scope: "col"}));
  const body = table.createTBody();
  for (const {metric, label} of report.objectives) {
    const row = body.insertRow();
    row.append(element("th", label, {scope: "row"}));
    row.insertCell().textContent = metric in trial.metrics ? readable(trial.metrics[metric].toFixed(4)) : "";
    if (!confirmed) continue;
    const ends = confirmed.intervals[metric];
    const between = ends ? ` (${ends.map(end => readable(end.toFixed(3))).join(" to ")})` : "";
    row.insertCell().textContent = readable(confirmed.means[metric].toFixed(3)) + between + (confirmed.notes[metric] ?? "");
  }
  return table;
}

function mlflowLink({name, link}) {
  const box = element("p"), {command} = report.mlflow;
  if (!link) {
    box.textContent = "MLflow had no run of this trial when the page was written.";
    return box;
  }
  box.append("MLflow run ", element("a", name, {href: link, target: "_blank", rel: "noreferrer"}));
  if (command) box.append(", while this command runs where the study was started: ", element("code", command));
  return box;
}

function show(number, from) {
  const trial = report.trials[number];
  if (dialog.open) dialog.close();
  opener = from ?? null;
  const close = element("button", "Close", {type: "button", class: "close"});
  close.addEventListener("click", () => dialog.close());
  const status = trial.status === "completed" ? "not on the front" : trial.status;
  const labels = [trial.name, trial.mark, status].filter(Boolean);
  const name = element("h2", `Trial ${number}`, {id: "one-name", tabindex: "-1"});
  dialog.replaceChildren(close, name, element("p", labels.join(", "), {class: "soft"}));
  if (trial.error) dialog.append(element("p", trial.error));
  if (Object.keys(trial.metrics).length) dialog.append(numbers(trial));
  if (trial.confirmed) {
    const {replicates, verdict, probability} = trial.confirmed;
    dialog.append(element("p", `Confirmed by ${counted(replicates, "replicate")}: ${verdict}; ` +
      `its probability of being on the front is ${probability.toFixed(2)}.`));
  }
  if (trial.flags.length) dialog.append(element("p", `Flags in the sweep: ${trial.flags.join(", ")}`));
  const own = Object.fromEntries(report.columns.filter(c => c in trial.params).map(c => [c, trial.params[c]]));
  dialog.append(element("h3", "Configuration"), pairs(own), mlflowLink(trial),
    folded("Settings shared by all trials", report.shared), folded("All metrics", trial.metrics, value => readable(digits(value))));
  dialog.show();
  name.focus({preventScroll: true});
  mark(number, true);
}

dialog.addEventListener("close", () => {
  mark(null, false);
  if (opener?.isConnected) opener.focus({preventScroll: true});
});
addEventListener("keydown", event => { if (event.key === "Escape" && dialog.open) dialog.close(); });

// Charts

const charts = [...document.querySelectorAll(".plotly-graph-div")];
const night = matchMedia("screen and (prefers-color-scheme: dark)");
const COLORED = ["marker.color", "marker.line.color", "line.color", "error_x.color", "error_y.color", "error_z.color"];
const originals = new Map(charts.map(chart => [chart, chart.data.map(trace => COLORED.map(path => inner(trace, path)))]));

function inner(object, path) {
  return path.split(".").reduce((part, name) => part?.[name], object);
}

// A chart in the colours of the mode; `report.dark` has the dark colour of each light one.
function recolor(chart) {
  const own = color => night.matches ? report.dark[color] ?? color : color;
  const traces = Object.fromEntries(COLORED.map((path, i) => [path, originals.get(chart).map(all => all[i] && own(all[i]))]));
  const layout = {"font.color": own(report.ink), "modebar.color": own(report.outline), "modebar.activecolor": own(report.ink)};
  const axes = chart.layout.scene ? ["scene.xaxis", "scene.yaxis", "scene.zaxis"] : ["xaxis", "yaxis"];
  for (const axis of axes) layout[`${axis}.gridcolor`] = own(report.faint);
  for (const i of (chart.layout.annotations ?? []).keys()) layout[`annotations[${i}].font.color`] = own(report.ink);
  return Plotly.update(chart, traces, layout);
}

const pen = document.createElement("canvas").getContext("2d");
const REACHES = [12, 20, 30, 44, 62, 84];  // distances from a point to its name

// Names of points are moved to where they cover no point, no other name, and as few intervals as possible.
function placeNames(chart) {
  const names = chart.layout.annotations ?? [];
  if (!names.length) return;
  const {xaxis, yaxis} = chart._fullLayout, taken = [], bars = [];
  for (const trace of chart.data) if (trace.mode === "markers") trace.x.forEach((x, i) => {
    const left = xaxis.d2p(x), top = yaxis.d2p(trace.y[i]), half = (trace.marker.size + 4) / 2;
    taken.push([left - half, top - half, left + half, top + half]);
    const ends = (axis, value, error) => error ? [axis.d2p(value - error.arrayminus[i]), axis.d2p(value + error.array[i])] : null;
    const [across, along] = [ends(xaxis, x, trace.error_x), ends(yaxis, trace.y[i], trace.error_y)];
    if (across) bars.push([across[0], top - 1, across[1], top + 1]);
    if (along) bars.push([left - 1, along[1], left + 1, along[0]]);
  });
  const overlap = (a, b) => Math.max(0, Math.min(a[2], b[2]) - Math.max(a[0], b[0])) *
    Math.max(0, Math.min(a[3], b[3]) - Math.max(a[1], b[1]));
  const changes = {};
  names.forEach((name, i) => {
    pen.font = `${name.font.size}px ${chart.layout.font.family}`;
    const width = pen.measureText(name.text.replace(/&amp;/g, "&").replace(/&lt;/g, "<").replace(/&gt;/g, ">")).width + 8;
    const height = name.font.size * 1.3 + 6, left = xaxis.d2p(name.x), top = yaxis.d2p(name.y);
    let best = null;
    for (const reach of REACHES) for (let turn = 0; turn < 16; turn++) {
      const [cos, sin] = [Math.cos(turn * Math.PI / 8), Math.sin(turn * Math.PI / 8)];
      const x = left + cos * (reach + width / 2), y = top + sin * (reach + height / 2);
      const box = [x - width / 2, y - height / 2, x + width / 2, y + height / 2];
      const outside = Math.max(0, -box[0]) + Math.max(0, -box[1]) + Math.max(0, box[2] - xaxis._length) +
        Math.max(0, box[3] - yaxis._length);
      const cost = reach + 100 * outside + 20 * sum(taken.map(other => overlap(box, other))) +
        0.4 * sum(bars.map(other => overlap(box, other)));
      if (!best || cost < best.cost) best = {cost, box, ax: x - left, ay: y - top};
    }
    taken.push(best.box);
    changes[`annotations[${i}].ax`] = best.ax;
    changes[`annotations[${i}].ay`] = best.ay;
  });
  Plotly.relayout(chart, changes);
}

function sum(values) {
  return values.reduce((total, value) => total + value, 0);
}

// Charts are drawn before the page has its width.
let waiting = null;
addEventListener("resize", () => {
  clearTimeout(waiting);
  waiting = setTimeout(() => charts.forEach(placeNames), 150);
});
addEventListener("load", () => dispatchEvent(new Event("resize")));
night.addEventListener("change", () => charts.forEach(recolor));
for (const chart of charts) {
  if (night.matches) recolor(chart);
  chart.on("plotly_relayout", changed => { if (Object.keys(changed).some(name => name.includes("axis"))) placeNames(chart); });
  chart.on("plotly_click", event => {
    const number = event.points.find(point => point.customdata !== undefined)?.customdata;
    if (number !== undefined) show(String(number), null);
  });
}

// Parallel coordinates

const picture = document.getElementById("lines");
const lines = new Map([...(picture?.querySelectorAll("[data-trial]") ?? [])].map(line => [line.dataset.trial, line]));

function mark(number, on) {
  for (const marked of document.querySelectorAll(".marked")) marked.classList.remove("marked");
  if (!on) return;
  rows.get(number)?.classList.add("marked");
  lines.get(number)?.classList.add("marked");
}

for (const [number, line] of lines) {
  line.addEventListener("click", () => show(number, null));
  line.addEventListener("mouseenter", () => mark(number, true));
  line.addEventListener("mouseleave", () => mark(null, false));
}
for (const [number, row] of rows) {
  row.addEventListener("mouseenter", () => mark(number, true));
  row.addEventListener("mouseleave", () => mark(null, false));
}

const filters = [...document.querySelectorAll(".filters fieldset")];

function value(trial, filter) {
  const {name, objective} = filter.dataset;
  return (objective === "1" ? trial.metrics : trial.params)[name] ?? report.shared[name];
}

function passes(trial, filter) {
  const own = value(trial, filter), choice = filter.querySelector("select");
  if (choice) return !choice.value || String(own) === choice.value;
  const [from, to] = [...filter.querySelectorAll("input")].map(input => input.value);
  if (!from && !to) return true;
  return own !== undefined && (!from || own >= +from) && (!to || own <= +to);
}

function apply() {
  let kept = 0;
  for (const [number, row] of rows) {
    const on = filters.every(filter => passes(report.trials[number], filter));
    row.hidden = !on;
    lines.get(number)?.classList.toggle("off", !on);
    kept += on;
  }
  const summary = document.getElementById("kept");
  summary.textContent = `${kept} of ${counted(rows.size, "trial")} ${kept === 1 ? "is" : "are"} kept. `;
  if (kept !== rows.size) {
    const reset = element("button", "Show all", {type: "button"});
    reset.addEventListener("click", () => {
      for (const filter of filters) set(filter, "", "");
      for (const brush of picture.querySelectorAll(".brush")) brush.setAttribute("height", 0);
      apply();
    });
    summary.append(reset);
  }
}

function set(filter, from, to) {
  const choice = filter.querySelector("select");
  if (choice) choice.value = from;
  else [...filter.querySelectorAll("input")].forEach((input, i) => { input.value = [from, to][i]; });
}

// The value at a position on an axis, from 0 at the bottom to 1 at the top.
function at(filter, place) {
  const {low, high, log, flipped} = filter.dataset;
  const share = flipped === "1" ? 1 - place : place;
  if (log !== "1") return +low + share * (high - low);
  return Math.exp(Math.log(low) + share * (Math.log(high) - Math.log(low)));
}

function brush(filter, a, b) {
  const [bottom, top] = [Math.min(a, b), Math.max(a, b)], choice = filter.querySelector("select");
  if (choice) {  // the option at the middle of the brush
    const count = choice.options.length - 1;
    choice.selectedIndex = 1 + Math.min(count - 1, Math.floor((bottom + top) / 2 * count));
    return;
  }
  const ends = [at(filter, bottom), at(filter, top)].sort((x, y) => x - y);
  const open = filter.dataset.flipped === "1" ? [top >= 1, bottom <= 0] : [bottom <= 0, top >= 1];
  set(filter, open[0] ? "" : +ends[0].toPrecision(6), open[1] ? "" : +ends[1].toPrecision(6));
}

for (const axis of picture?.querySelectorAll(".axis") ?? []) {
  const filter = filters[axis.dataset.axis], hit = axis.querySelector(".hit"), shown = axis.querySelector(".brush");
  const top = +shown.getAttribute("y"), height = +hit.getAttribute("height") - 16;
  const place = event => {
    const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(picture.getScreenCTM().inverse());
    return Math.min(1, Math.max(0, 1 - (point.y - top) / height));
  };
  let start = null;
  hit.addEventListener("pointerdown", event => {
    start = place(event);
    hit.setPointerCapture(event.pointerId);
  });
  hit.addEventListener("pointermove", event => {
    if (start === null) return;
    const now = place(event);
    shown.setAttribute("y", top + height * (1 - Math.max(start, now)));
    shown.setAttribute("height", height * Math.abs(start - now));
  });
  hit.addEventListener("pointerup", event => {
    const now = place(event);
    if (Math.abs(now - start) * height < 4) {
      shown.setAttribute("height", 0);
      set(filter, "", "");
    } else brush(filter, start, now);
    start = null;
    apply();
  });
}
for (const filter of filters) filter.addEventListener("change", () => {
  picture.querySelectorAll(".brush")[filter.dataset.axis].setAttribute("height", 0);  // the typed values replace the brush
  apply();
});
if (picture) apply();
