// The pictures and walks of a report. Everything comes from the JSON element of the page; texts become text nodes, never markup.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const LAST = Math.max(data.duration, 1e-6); // end of the capture, in seconds
const COLOURS = 10;
const SHORT = new Intl.NumberFormat("en", { notation: "compact" }); // 120K
// states that most readers meet keep their colour from page to page; numbers are those of the --c colours
const STATE_COLOURS = {
  ESTABLISHED: 2, SYN_RECV: 1, SYN_SENT: 8, FIN_WAIT: 0, TIME_WAIT: 4, CLOSE: 7, CLOSE_WAIT: 6, LAST_ACK: 3, LISTEN: 5, SYNACK: 9, UDP: 5, ASSURED: 2, NONE: 7, template: 8,
};

// --- small tools -------------------------------------------------------------------------------------------------------
const byId = (id) => document.getElementById(id);
const word = (number) => data.words[number];
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const colour = (number) => `var(--c${number % COLOURS})`;

function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

function drawn(name, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function filled(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function stateColour(state) {
  const name = state.split(" ").pop();
  if (!(name in STATE_COLOURS)) STATE_COLOURS[name] = Object.keys(STATE_COLOURS).length;
  return colour(STATE_COLOURS[name]);
}

function swatch(fill) {
  return element("i", { style: `background:${fill}` });
}

// a step of 1, 2 or 5 times a power of ten that gives about `count` marks
function niceStep(span, count) {
  const rough = span / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  return power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
}

function ticks(from, to, count) {
  const step = niceStep(Math.max(to - from, 1e-9), count);
  const found = [];
  for (let number = Math.ceil(from / step - 1e-6); number * step <= to + step * 1e-6; number++) found.push(number * step);
  return { step, found };
}

function seconds(value, step = 0) {
  const digits = step > 0 ? clamp(-Math.floor(Math.log10(step) + 1e-9), 0, 6) : Math.abs(value) < 10 ? 3 : 1;
  return `${value.toFixed(digits)} s`;
}

// draw now, and again whenever the width changes
function redrawn(svg, draw) {
  let width = 0;
  new ResizeObserver(() => {
    if (svg.clientWidth !== width) draw((width = svg.clientWidth));
  }).observe(svg);
}

// --- charts ------------------------------------------------------------------------------------------------------------
// a step line for each series, or areas on top of each other; the legend shows the values under the pointer
function chart(title, series, stacked) {
  const height = 210, left = 46, right = 12, top = 10, bottom = 24;
  const svg = drawn("svg", { height, role: "img", "aria-label": title });
  const values = series.map(() => element("b"));
  const legend = element("ul", { class: "legend" }, ...series.map((one, n) => element("li", {}, swatch(one.colour), `${one.name} `, values[n])));
  byId("charts").append(element("figure", {}, element("figcaption", {}, title), svg, legend));
  const sums = data.times.map((_, at) => series.reduce((sum, one) => sum + one.values[at], 0));
  const highest = Math.max(1, ...(stacked ? sums : series.flatMap((one) => one.values)));
  const read = (at) => series.forEach((one, n) => (values[n].textContent = one.values[at]));
  read(data.times.length - 1);

  redrawn(svg, (width) => {
    const x = (time) => left + (time / LAST) * (width - left - right);
    const y = (value) => top + (1 - value / highest) * (height - top - bottom);
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.replaceChildren();
    for (const value of ticks(0, highest, 4).found.filter(Number.isInteger)) {
      svg.append(drawn("line", { class: "grid", x1: left, x2: width - right, y1: y(value), y2: y(value) }));
      svg.append(drawn("text", { x: left - 7, y: y(value) + 4, "text-anchor": "end" }, value < 1e5 ? String(value) : SHORT.format(value)));
    }
    const times = ticks(0, LAST, width / 110);
    for (const time of times.found) svg.append(drawn("text", { x: Math.min(x(time), width - 26), y: height - 6, "text-anchor": "middle" }, seconds(time, times.step)));
    const below = data.times.map(() => 0);
    for (const one of series) {
      const tops = one.values.map((value, at) => (stacked ? below[at] + value : value));
      const forth = stairs(tops, x, y);
      if (stacked) {
        svg.append(drawn("path", { d: `M${forth.join("L")}L${stairs(below, x, y).reverse().join("L")}Z`, fill: one.colour }));
        tops.forEach((value, at) => (below[at] = value));
      } else {
        svg.append(drawn("path", { d: `M${forth.join("L")}`, fill: "none", stroke: one.colour, "stroke-width": 2 }));
      }
    }
    const cross = drawn("line", { class: "cross", y1: top, y2: height - bottom, visibility: "hidden" });
    svg.append(cross);
    svg.onpointermove = (event) => {
      const time = ((event.offsetX - left) / (width - left - right)) * LAST;
      const later = data.times.findIndex((sample) => sample > time);
      const at = later < 0 ? data.times.length - 1 : Math.max(later - 1, 0);
      cross.setAttribute("visibility", "visible");
      cross.setAttribute("x1", x(data.times[at]));
      cross.setAttribute("x2", x(data.times[at]));
      read(at);
    };
    svg.onpointerleave = () => {
      cross.setAttribute("visibility", "hidden");
      read(data.times.length - 1);
    };
  });
}

// a value holds until the next sample
function stairs(values, x, y) {
  const points = [];
  values.forEach((value, at) => {
    if (at > 0) points.push(`${x(data.times[at]).toFixed(1)},${y(values[at - 1]).toFixed(1)}`);
    points.push(`${x(data.times[at]).toFixed(1)},${y(value).toFixed(1)}`);
  });
  return points;
}

function drawCharts() {
  for (const { name, lines } of data.services) {
    const series = (what) => lines.map((line) => ({ name: line.name, colour: colour(line.colour), values: line[what] }));
    chart(`${name}: connections given to each server so far`, series("given"), false);
    if (lines.some((line) => line.held.some(Boolean))) chart(`${name}: connections that each server holds`, series("held"), true);
  }
  const states = Object.entries(data.states).map(([name, values]) => ({ name, colour: stateColour(name), values }));
  if (states.length) chart("All entries by state", states, true);
  // red and its neighbours come first
  const losses = Object.entries(data.losses).map(([name, values], n) => ({ name, colour: colour(COLOURS - 1 - n), values }));
  if (losses.length) chart("Packets lost so far, by reason", losses, true);
  if (!states.length && !losses.length) byId("charts").append(element("p", { class: "none" }, "No connection was made."));
}

// --- the time line of connections --------------------------------------------------------------------------------------
const lives = data.lives;
const latest = (life) => life.deadlines.length ? life.deadlines.at(-1)[1] : life.began;
const TIMERS = Math.max(LAST, ...lives.map((life) => life.ended ?? latest(life)));
const view = { from: 0, to: LAST };
const rows = []; // of the time line: life, button, svg, whether it is on screen
let chosen = -1;

function showView(from, to) {
  const span = clamp(to - from, Math.min(1e-4, LAST), TIMERS * 1.05);
  view.from = clamp(from, 0, Math.max(TIMERS * 1.05 - span, 0));
  view.to = view.from + span;
  drawAxis();
  rows.forEach(drawRow);
}

// `middle`: a time that stays where it is
function zoom(factor, middle = (view.from + view.to) / 2) {
  showView(middle - (middle - view.from) * factor, middle + (view.to - middle) * factor);
}

function move(part) {
  const by = (view.to - view.from) * part;
  showView(view.from + by, view.to + by);
}

const ZOOMS = {
  in: () => zoom(0.5),
  out: () => zoom(2),
  left: () => move(-0.25),
  right: () => move(0.25),
  capture: () => showView(0, LAST),
  timers: () => showView(0, TIMERS * 1.02),
};
const KEYS = { "+": "in", "=": "in", "-": "out", "_": "out", ArrowLeft: "left", ArrowRight: "right" };

function bandLeft() {
  const svg = rows.find((row) => row.svg.clientWidth)?.svg;
  return svg ? svg.getBoundingClientRect().left - byId("lives").getBoundingClientRect().left : 0;
}

function drawAxis() {
  const axis = byId("axis");
  const width = axis.clientWidth, left = bandLeft(), inner = width - left;
  axis.setAttribute("viewBox", `0 0 ${width} 26`);
  axis.replaceChildren();
  const marks = ticks(view.from, view.to, inner / 110);
  for (const time of marks.found) {
    const x = left + ((time - view.from) / (view.to - view.from)) * inner;
    axis.append(drawn("line", { class: "cross", x1: x, x2: x, y1: 20, y2: 26 }));
    axis.append(drawn("text", { x: clamp(x, left + 22, width - 26), y: 16, "text-anchor": "middle" }, seconds(time, marks.step)));
  }
}

// state bands, then how long the timer still runs, then the references; `scale` turns seconds into pixels
function drawLife(svg, life, scale, sizes) {
  const { width, bandTop, bandHeight, timerTop, timerBottom, refsTop, refsBottom } = sizes;
  const inside = (time) => clamp(scale(time), -5, width + 5);
  const rectangle = (from, to, state, more) => {
    const x = inside(from);
    svg.append(drawn("rect", { x, y: bandTop, width: Math.max(inside(to) - x, 2), height: bandHeight, fill: stateColour(state), ...more }, drawn("title", {}, state)));
  };
  const end = life.ended ?? LAST;
  life.states.forEach(([at, state], n) => rectangle(at, life.states[n + 1]?.[0] ?? end, word(state), {}));
  if (life.ended === null && life.states.length) rectangle(end, latest(life), word(life.states.at(-1)[1]), { opacity: 0.35 });

  const longest = longestTimeout(life);
  const y = (left) => timerBottom - Math.sqrt(clamp(left / longest, 0, 1)) * (timerBottom - timerTop);
  const saw = [];
  life.deadlines.forEach(([at, deadline], n) => {
    const until = life.deadlines[n + 1]?.[0] ?? life.ended ?? deadline;
    const from = scale(at), to = scale(until);
    if (to < -5 || from > width + 5) return;
    const pieces = to - from > 30 ? 12 : 1;
    for (let piece = 0; piece <= pieces; piece++) {
      const time = at + ((until - at) * piece) / pieces;
      saw.push(`${scale(time).toFixed(1)},${y(deadline - time).toFixed(1)}`);
    }
  });
  if (saw.length) svg.append(drawn("polyline", { class: "saw", points: saw.join(" ") }));

  const most = Math.max(2, ...life.references.map(([, , peak]) => peak));
  const level = (count) => refsBottom - (count / most) * (refsBottom - refsTop);
  let line = "", before = 0;
  for (const [at, value, peak] of life.references) {
    const x = inside(at).toFixed(1);
    line += `${line ? "L" : "M"}${x},${level(before)}L${x},${level(peak)}L${x},${level(value)}`;
    before = value;
  }
  if (line) svg.append(drawn("path", { class: "refs", d: `${line}L${inside(life.ended ?? latest(life))},${level(before)}` }));
  return { y, level, most, longest };
}

function longestTimeout(life) {
  return Math.max(1, ...life.deadlines.map(([at, deadline]) => deadline - at));
}

function drawRow(row) {
  const width = row.svg.clientWidth;
  if (!row.onScreen || !width) return;
  const scale = (time) => ((time - view.from) / (view.to - view.from)) * width;
  row.svg.setAttribute("viewBox", `0 0 ${width} 44`);
  row.svg.replaceChildren();
  drawLife(row.svg, row.life, scale, { width, bandTop: 4, bandHeight: 11, timerTop: 18, timerBottom: 30, refsTop: 33, refsBottom: 41 });
  for (const [at, lost] of packetsOf(row.life)) {
    const x = scale(at);
    if (x >= -1 && x <= width + 1) row.svg.append(drawn("rect", { class: lost ? "mark lost" : "mark", x: x - 0.5, y: lost ? 0 : 2, width: lost ? 3 : 1, height: lost ? 17 : 3 }));
  }
}

function packetsOf(life) {
  return [...life.steps.filter((step) => step.record).map((step) => [step.at, step.lost]), ...life.others];
}

function stateNow(life) {
  const state = life.states.length ? word(life.states.at(-1)[1]) : "NONE";
  return life.ended === null ? state : `gone, last ${state}`;
}

function makeRows() {
  const watch = new IntersectionObserver((seen) => {
    for (const one of seen) {
      const row = rows[Number(one.target.dataset.life)];
      row.onScreen = one.isIntersecting;
      drawRow(row);
    }
  }, { root: byId("timeline"), rootMargin: "200px" });
  lives.forEach((life, number) => {
    const about = element("em", {}, `${life.server || "no server"}, ${life.template ? "template, " : ""}${stateNow(life)}`);
    const lost = life.lost ? [element("em", { class: "lost" }, `${life.lost} lost`)] : [];
    const svg = drawn("svg", { "aria-hidden": "true" });
    const button = element("button", { type: "button", class: "life", "data-life": number }, element("span", {}, life.client, about, ...lost), svg);
    button.addEventListener("click", () => choose(number, true));
    byId("lives").append(button);
    rows.push({ life, button, svg, onScreen: false });
    watch.observe(button);
  });
  if (!lives.length) byId("lives").append(element("p", { class: "none" }, "No connection was made."));
  const states = new Set(lives.flatMap((life) => life.states.map(([, state]) => word(state))));
  byId("state-legend").append(...[...states].map((state) => element("li", {}, swatch(stateColour(state)), state)));
  redrawn(byId("axis"), () => showView(view.from, view.to));
}

// one finger or the mouse moves, two fingers or Ctrl + wheel zoom; a touch that hardly moved stays a click
function followPointers() {
  const area = byId("timeline"), held = new Map();
  let moved = false;
  const timeAt = (clientX) => {
    const left = bandLeft() + byId("lives").getBoundingClientRect().left;
    const width = byId("lives").getBoundingClientRect().right - left;
    return view.from + ((clientX - left) / Math.max(width, 1)) * (view.to - view.from);
  };
  area.addEventListener("pointerdown", (event) => {
    held.set(event.pointerId, event.clientX);
    if (held.size === 1) moved = false;
  });
  addEventListener("pointermove", (event) => {
    if (!held.has(event.pointerId)) return;
    const before = held.get(event.pointerId);
    if (!moved && held.size === 1 && Math.abs(event.clientX - before) < 5) return;
    moved = true;
    if (held.size === 1) {
      const by = timeAt(before) - timeAt(event.clientX);
      showView(view.from + by, view.to + by);
    } else {
      const [other] = [...held].filter(([id]) => id !== event.pointerId).map(([, x]) => x);
      const factor = Math.abs(before - other) / Math.max(Math.abs(event.clientX - other), 1);
      zoom(clamp(factor, 0.5, 2), timeAt(other));
    }
    held.set(event.pointerId, event.clientX);
  });
  for (const kind of ["pointerup", "pointercancel"]) addEventListener(kind, (event) => held.delete(event.pointerId));
  area.addEventListener("click", (event) => {
    if (moved) event.stopPropagation();
    moved = false;
  }, true);
  area.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    zoom(event.deltaY > 0 ? 1.25 : 0.8, timeAt(event.clientX));
  }, { passive: false });
  area.addEventListener("keydown", (event) => {
    if (!(event.key in KEYS) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    ZOOMS[KEYS[event.key]]();
  });
}

// --- a walk ------------------------------------------------------------------------------------------------------------
function choose(number, scroll) {
  chosen = number;
  const life = lives[number];
  document.querySelectorAll("[data-life]").forEach((one) => one.classList.toggle("chosen", Number(one.dataset.life) === number));
  const facts = [
    `${life.service || "Made by a helper"}, sent to ${life.server || "nobody"}.`,
    `It began at ${seconds(life.began)}` + (life.ended === null ? ` and was ${stateNow(life)} at the end of the capture, its timer to fire at ${seconds(latest(life))}.` : ` and was removed at ${seconds(life.ended)}.`),
    `${life.packets} packets${life.lost ? `, ${life.lost} lost` : ""}.`,
  ];
  if (life.template) facts.push("A persistence template: only what the connections on this page did with it is drawn.");
  facts.push("▼ from the client, ▲ from the server, ◆ a timer.");
  if (life.others.length) facts.push(`The first ${life.steps.length} steps are explained.`);
  const svg = drawn("svg", { class: "life-picture", role: "img", "aria-label": `The life of ${life.client}: states, timer, references` });
  const steps = life.steps.map((step, n) => stepOf(step, n === 0));
  byId("walk").replaceChildren(element("h3", {}, `${life.template ? "Template" : "Connection"} of ${life.client}`), element("p", {}, facts.join(" ")), svg, ...steps);
  redrawn(svg, (width) => drawWhole(svg, life, steps, width));
  if (scroll) byId("walk").scrollIntoView({ block: "start" });
}

// the whole life with scales; client packets above the band, answers below it, a click on one opens its step
function drawWhole(svg, life, steps, width) {
  const left = 74, right = 12, bottom = 168;
  const packets = packetsOf(life).map(([at]) => at);
  const acted = Math.max(life.ended ?? 0, ...packets, ...life.states.map(([at]) => at));
  const from = life.began, to = acted + Math.max((acted - from) * 0.08, 1e-5);
  const scale = (time) => ((time - from) / (to - from)) * (width - left - right);
  svg.setAttribute("viewBox", `0 0 ${width} 190`);
  const inner = drawn("svg", { x: left, y: 0, width: width - left - right, height: 190 });
  svg.replaceChildren(inner);
  const sizes = { width: width - left - right, bandTop: 14, bandHeight: 24, timerTop: 60, timerBottom: 112, refsTop: 128, refsBottom: 160 };
  const { y, level, most, longest } = drawLife(inner, life, scale, sizes);
  const label = (at, text) => svg.append(drawn("text", { x: left - 8, y: at + 4, "text-anchor": "end" }, text));
  label(26, "state");
  label(y(longest), seconds(longest, 1));
  label(y(0) - 2, "0 s left");
  for (let count = 0; count <= most; count += Math.ceil(most / 3)) label(level(count), count ? String(count) : "refcnt 0");
  const marks = ticks(from, to, (width - left) / 120);
  for (const time of marks.found) {
    const x = left + scale(time);
    svg.prepend(drawn("line", { class: "grid", x1: x, x2: x, y1: 10, y2: bottom }));
    svg.append(drawn("text", { x: clamp(x, left + 20, width - 34), y: 184, "text-anchor": "middle" }, seconds(time, marks.step)));
  }
  life.steps.forEach((step, n) => {
    const x = clamp(scale(step.at), 4, width - left - right - 4);
    const mark = drawn("path", { class: `jump mark${step.lost ? " lost" : ""}`, d: markShape(step, x) }, drawn("title", {}, title(step)));
    mark.addEventListener("click", () => {
      steps[n].open = true;
      steps[n].scrollIntoView({ block: "nearest" });
    });
    inner.append(mark);
  });
}

function markShape(step, x) {
  if (!step.record) return `M${x},1l4,5l-4,5l-4,-5z`;
  return word(step.kind) === "answer" ? `M${x - 4},50h8l-4,-9z` : `M${x - 4},2h8l-4,9z`;
}

const title = (step) => word(step.what) || "time passes";

function stepOf(step, open) {
  const fate = step.lost ? "lost" : word(step.verdict);
  const summary = element("summary", {},
    element("span", { class: "when" }, `${step.at.toFixed(6)} s`), element("span", { class: "what" }, title(step)),
    element("span", { class: step.lost ? "fate lost" : "fate" }, fate));
  const made = element("details", { class: "step" }, summary);
  const fill = () => {
    if (made.open && made.childElementCount === 1) made.append(told(step));
  };
  made.addEventListener("toggle", fill);
  made.open = open;
  fill(); // the event comes later
  return made;
}

function told(step) {
  const where = [step.record ? `Record ${step.record} of the capture, a ${word(step.kind)}` : "No packet: a timer", `, at jiffy ${step.jiffies}`];
  if (word(step.given)) where.push(`, fed as ${word(step.given)}`);
  const events = step.events.map((number, n) => {
    const [phase, name, text] = data.events[number].map(word);
    return element("li", {}, element("span", { class: "n" }, String(n + 1)), element("span", { class: "phase" }, phase), element("code", { class: "function" }, name), element("span", { class: "words" }, text));
  });
  const ends = [];
  if (word(step.verdict)) ends.push(element("p", {}, element("strong", {}, word(step.verdict)), `: ${word(step.reason)}`));
  if (word(step.delivered)) ends.push(element("p", {}, "the host gets: ", element("code", {}, word(step.delivered))));
  for (const text of step.left) ends.push(element("p", {}, "leaves: ", element("code", {}, word(text))));
  return element("div", { class: "told" }, element("p", { class: "sub" }, where.join("") + "."), element("ol", { class: "events" }, ...events), ...ends,
    element("div", { class: "changes" }, ...step.changes.map(changeOf)));
}

function changeOf([what, members]) {
  const cells = members.map((member) => element("tr", {}, ...member.map((text, n) => element("td", n ? {} : { class: "t" }, word(text)))));
  const head = element("thead", {}, element("tr", {}, element("th", { class: "t" }, "member"), element("th", {}, "before"), element("th", {}, "after")));
  return element("div", { class: "box" }, element("table", {}, element("caption", {}, word(what)), head, element("tbody", {}, ...cells)));
}

// --- search ------------------------------------------------------------------------------------------------------------
function search() {
  const wanted = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const lines = [...document.querySelectorAll("tr[data-life]")];
  let count = 0;
  for (const line of lines) {
    const text = line.textContent.toLowerCase() + (line.classList.contains("lost") ? " lost" : "");
    const fits = wanted.every((part) => text.includes(part));
    line.hidden = rows[Number(line.dataset.life)].button.hidden = !fits;
    count += fits;
  }
  byId("found").textContent = wanted.length ? `${count} of ${lines.length}` : "";
  drawAxis();
}

// --- everything --------------------------------------------------------------------------------------------------------
drawCharts();
makeRows();
followPointers();
byId("search").addEventListener("input", search);
document.querySelectorAll("[data-zoom]").forEach((button) => button.addEventListener("click", ZOOMS[button.dataset.zoom]));
document.querySelectorAll("tr[data-life] button").forEach((button) => {
  button.closest("tr").addEventListener("click", () => choose(Number(button.closest("tr").dataset.life), true));
});
document.querySelectorAll("[data-example]").forEach((button) => {
  const step = data.examples[button.dataset.example];
  button.addEventListener("click", () => {
    byId("example").replaceChildren(element("h3", {}, "The first of these packets"), stepOf(step, true));
    byId("example").scrollIntoView({ block: "nearest" });
  });
});
if (lives.length) choose(Math.max(0, lives.findIndex((life) => life.lost)), false);
