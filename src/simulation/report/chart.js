"use strict";
// What all charts share. Text is only ever set as text.
const SVG = "http://www.w3.org/2000/svg";
const $ = (id) => document.getElementById(id);
const data = JSON.parse($("data").textContent);

function node(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function shape(tag, attributes = {}, text) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function number(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  const digits = size >= 100 || Number.isInteger(value) ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3;
  return value.toLocaleString("en-US", { maximumFractionDigits: digits });
}

const iso = (moment) => new Date(moment).toISOString();
const when = (moment) => `${iso(moment).slice(0, 10)} ${iso(moment).slice(11, 19).replace(/:00$/, "")}`;

/** Round values from 0 to at least `top`. */
function steps(top, count) {
  const rough = Math.max(top, 1e-9) / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((step) => step >= rough * 0.999);
  return Array.from({ length: Math.ceil(top / step - 1e-9) + 1 }, (_, index) => index * step);
}

/** Moments at which to write the time, and how. */
function timeTicks(from, to, count) {
  const HOUR = 3600e3, DAY = 24 * HOUR;
  const sizes = [60e3, 5 * 60e3, 15 * 60e3, 30 * 60e3, HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 2 * DAY, 7 * DAY, 14 * DAY, 28 * DAY, 84 * DAY, 364 * DAY];
  const size = sizes.find((size) => (to - from) / size <= count) ?? sizes[sizes.length - 1];
  const ticks = [];
  for (let at = Math.ceil(from / size) * size; at <= to; at += size) ticks.push(at);
  const days = size >= DAY || ticks.length < 2;
  return ticks.map((at) => ({ at, text: days || at % DAY === 0 ? iso(at).slice(5, 10) : iso(at).slice(11, 16) }));
}

/** An empty drawing of the place's width. */
function canvas(id, tall, label, focusable = true) {
  const place = $(id), width = Math.max(260, place.clientWidth), height = width < 520 ? Math.round(tall * 0.85) : tall;
  let svg = place.querySelector("svg");
  if (!svg) {
    svg = shape("svg", focusable ? { role: "application", tabindex: "0" } : { role: "img" });
    place.replaceChildren(svg);
  }
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("height", height);
  svg.setAttribute("aria-label", label);
  svg.replaceChildren();
  return { svg, width, height, left: 46, right: width - 10, top: 10, bottom: height - 22, add: (...all) => svg.append(...all) };
}

function yAxis(box, ticks, y) {
  for (const tick of ticks) {
    box.add(shape("line", { class: tick === 0 ? "base" : "grid", x1: box.left, x2: box.right, y1: y(tick), y2: y(tick) }));
    box.add(shape("text", { class: "axis", x: box.left - 6, y: y(tick) + 4, "text-anchor": "end" }, number(tick)));
  }
}

/** The text is kept inside the drawing. */
function xText(box, x, text) {
  const at = Math.min(Math.max(x, box.left), box.right);
  const anchor = box.right - at < 20 ? "end" : at - box.left < 8 ? "start" : "middle";
  box.add(shape("text", { class: "axis", x: at, y: box.bottom + 15, "text-anchor": anchor }, text));
}

/** Index of the last moment at or before `at`; −1 before the first. */
function indexAt(moments, at) {
  let low = 0, high = moments.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (moments[middle] <= at) low = middle + 1; else high = middle;
  }
  return low - 1;
}

const valueAt = (curve, at) => (curve ? curve.v[indexAt(curve.t, at)] ?? null : null);

/** The path of a curve that stays until it changes, within [from, to]; a gap is a gap. */
function stairs(curve, from, to, x, y) {
  const parts = [];
  let open = false;
  for (let index = Math.max(0, indexAt(curve.t, from)); index < curve.t.length && curve.t[index] <= to; index += 1) {
    const value = curve.v[index];
    if (value === null) { open = false; continue; }
    const at = x(Math.max(curve.t[index], from)).toFixed(1), level = y(value).toFixed(1);
    parts.push(open ? `H${at}V${level}` : `M${at} ${level}`);
    open = true;
    const next = Math.min(index + 1 < curve.t.length ? curve.t[index + 1] : to, to);
    parts.push(`H${x(next).toFixed(1)}`);
  }
  return parts.join("");
}

/** A path through [x, y]; null is a gap. */
function line(points) {
  let open = false;
  return points.map((point) => {
    if (point === null) { open = false; return ""; }
    const part = `${open ? "L" : "M"}${point[0].toFixed(1)} ${point[1].toFixed(1)}`;
    open = true;
    return part;
  }).join("");
}

function key(place, entries) {
  $(place).replaceChildren(...entries.map(([kind, text]) => {
    const sample = shape("svg", { viewBox: "0 0 22 10", "aria-hidden": "true" });
    sample.append(kind.startsWith("area:") ? shape("rect", { class: kind.slice(5), width: 22, height: 10 }) : shape("path", { class: kind, d: "M0 5H22" }));
    return node("span", {}, sample, text);
  }));
}

/** Shows a tip at a place of the page; rows are [name, value], `more` are lines of text. */
function tip(event, title, rows, more = []) {
  const box = $("tip");
  // On a phone the tip would cover the chart; the words are below it as well.
  if (document.documentElement.clientWidth < 560) more = [];
  box.replaceChildren(node("h3", {}, title), ...rows.map(([name, value]) => node("p", {}, node("span", {}, name), node("b", {}, value))), ...more.map((text) => node("span", { class: "reason" }, text)));
  box.hidden = false;
  const wide = document.documentElement.clientWidth, right = event.pageX + 14;
  box.style.left = `${Math.max(8, right + box.offsetWidth > wide - 8 ? Math.min(event.pageX - box.offsetWidth - 14, wide - box.offsetWidth - 8) : right)}px`;
  box.style.top = `${event.pageY + 16}px`;
}

const hideTip = () => { $("tip").hidden = true; };

/** Where in the page a point of a drawing is. */
function inPage(svg, box, x, y) {
  const area = svg.getBoundingClientRect();
  return { pageX: area.left + window.scrollX + x * area.width / box.width, pageY: area.top + window.scrollY + y * area.height / box.height };
}

/** Where in a drawing a pointer is. */
function inDrawing(svg, box, event) {
  const area = svg.getBoundingClientRect();
  return [(event.clientX - area.left) * box.width / area.width, (event.clientY - area.top) * box.height / area.height];
}
