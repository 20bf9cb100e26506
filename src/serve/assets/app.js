// The dashboard: draws /api/v1/snapshot, then follows /api/v1/stream. Text from the server is only ever set as text.
"use strict";

const MINUTE = 60000, POINTS_MAX = 1440, RECORDS_MAX = 100;
const RANGES = [["1 h", 60], ["3 h", 180], ["6 h", 360], ["24 h", 1440]];
const STATES = { ok: "ok", reactive: "reactive", gap: "gap", waiting: "waiting", blind: "blind", failing: "failing" };
const SVG = "http://www.w3.org/2000/svg";
const $ = (id) => document.getElementById(id);

const model = { status: null, services: new Map(), events: [] };
const ui = { selected: "", range: 180, hover: null, charts: [], pending: false, lostAt: null, shown: null };
const cards = new Map();

// ---- small tools

function node(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") made.className = value; else made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
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
  const digits = size >= 100 || Number.isInteger(value) ? 0 : size >= 10 ? 1 : 2;
  return value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

const percent = (value) => (value === null || value === undefined ? "–" : `${Math.round(value * 100)} %`);
const iso = (moment) => new Date(moment).toISOString();
const clock = (moment) => iso(moment).slice(11, 16);
const day = (moment) => iso(moment).slice(0, 10);
const times = (text) => { const moment = Date.parse(text); return `${day(moment)} ${iso(moment).slice(11, 19).replace(/:00$/, "")}`; };
/** A sentence with its times on the day of `at` shortened to the time of day. */
const brief = (text, at) => text.replace(/(\d{4}-\d\d-\d\d)T(\d\d:\d\d)(?::00)?(:\d\d(?:\.\d+)?)?Z/g, (_, date, minute, second = "") => (at.startsWith(date) ? "" : `${date} `) + minute + second);
const timeNode = (text) => node("time", { datetime: text, title: `${text} (UTC)` }, times(text));

// ---- data

/** Replaces the tail of a list of [moment, …] by newer points. */
function merge(have, news) {
  if (news.length === 0) return have;
  let keep = have.length;
  while (keep > 0 && have[keep - 1][0] >= news[0][0]) keep -= 1;
  return have.slice(0, keep).concat(news).slice(-POINTS_MAX);
}

/** Adds records that are not there yet; newest last. */
function collect(have, news, key) {
  const known = new Set(have.map(key));
  return have.concat(news.filter((record) => !known.has(key(record)))).slice(-RECORDS_MAX);
}

function take(frame) {
  if (model.status && !frame.full && frame.status.version < model.status.version) return;
  if (frame.full) model.services = new Map();
  model.status = frame.status;
  model.events = frame.events;
  for (const news of frame.services) {
    const have = model.services.get(news.summary.name) ?? { load: [], capacity: [], decisions: [], actuations: [], model_events: [] };
    model.services.set(news.summary.name, {
      summary: news.summary,
      forecast: news.forecast,
      load: merge(have.load, news.load),
      capacity: merge(have.capacity, news.capacity),
      decisions: collect(have.decisions, news.decisions, (record) => record.id),
      actuations: collect(have.actuations, news.actuations, (record) => record.decision + record.at + record.outcome.kind),
      model_events: collect(have.model_events, news.model_events, (record) => record.at + record.kind + record.text),
    });
  }
  schedule();
}

// ---- connection

let source = null, retry = null, wait = 1000;

function follow() {
  if (source) source.close();
  source = new EventSource("/api/v1/stream");
  source.addEventListener("frame", (event) => { live(); take(JSON.parse(event.data)); });
  source.onopen = live;
  source.onerror = () => {
    lost();
    // The browser retries by itself unless the server refused.
    if (source.readyState !== EventSource.CLOSED) return;
    clearTimeout(retry);
    retry = setTimeout(follow, wait);
    wait = Math.min(wait * 2, 10000);
  };
}

function live() {
  wait = 1000;
  if (document.body.dataset.link === "live") return;
  document.body.dataset.link = "live";
  ui.lostAt = null;
  $("link").textContent = "Live";
  schedule();
}

function lost() {
  if (document.body.dataset.link === "lost") return;
  document.body.dataset.link = "lost";
  ui.lostAt = new Date();
  $("link").textContent = "Disconnected, retrying";
  schedule();
}

// ---- page

function schedule() {
  if (ui.pending) return;
  ui.pending = true;
  requestAnimationFrame(() => { ui.pending = false; draw(); });
}

function draw() {
  drawTop();
  const names = [...model.services.keys()];
  $("empty").hidden = names.length > 0 || !model.status;
  if (!model.services.has(ui.selected)) ui.selected = names[0] ?? "";
  drawCards(names);
  const service = model.services.get(ui.selected);
  $("service").hidden = !service;
  if (service) drawService(service);
}

function drawTop() {
  const status = model.status, notices = [];
  if (ui.lostAt) notices.push(`No connection to Prescale since ${ui.lostAt.toISOString().slice(11, 19)} UTC. What you see is the last that was received.`);
  if (status) {
    $("clock-name").textContent = status.clock === "event" ? "Simulated time" : "Time";
    $("now").textContent = times(status.now);
    $("ready").hidden = false;
    $("ready").className = `pill ${status.ready ? "good" : "wait"}`;
    $("ready").textContent = status.ready ? "Ready" : "Not ready";
    if (!status.ready) notices.push(`Not ready: ${status.not_ready}`);
    notices.push(...status.degradations);
  }
  $("notices").hidden = notices.length === 0;
  $("notices").classList.toggle("lost", ui.lostAt !== null);
  if ($("notices").dataset.text !== notices.join("\n")) {
    $("notices").dataset.text = notices.join("\n");
    $("notices").replaceChildren(...notices.map((text) => node("p", {}, text)));
  }
}

function drawCards(names) {
  for (const [name, card] of cards) if (!model.services.has(name)) { card.root.remove(); cards.delete(name); }
  for (const name of names) {
    if (!cards.has(name)) cards.set(name, makeCard(name));
    const card = cards.get(name), { summary, load } = model.services.get(name), on = name === ui.selected;
    if (on && ui.shown !== name) { ui.shown = name; card.root.scrollIntoView({ block: "nearest", inline: "nearest" }); }
    card.root.setAttribute("aria-selected", on);
    card.root.tabIndex = on ? 0 : -1;
    card.mode.textContent = summary.mode;
    card.state.textContent = summary.paused ? "paused" : STATES[summary.condition] ?? summary.condition;
    card.state.className = `state ${summary.condition}`;
    card.load.textContent = number(summary.load?.value);
    card.lead.textContent = number(summary.forecast_at_lead?.upper);
    card.units.textContent = `${number(summary.ready)} / ${number(summary.desired)}`;
    card.use.textContent = percent(summary.utilization);
    card.spark.setAttribute("d", spark(load.slice(-180)));
  }
}

function makeCard(name) {
  const part = (label, title) => { const value = node("b", {}, "–"); return [value, node("span", { title }, node("small", {}, label), value)]; };
  const [load, loadBox] = part("load", "load in the last closed window");
  const [lead, leadBox] = part("at lead", "upper forecast for the moment when capacity asked for now carries load");
  const [units, unitsBox] = part("ready / want", "units in service / units asked for");
  const [use, useBox] = part("use", "load per capacity in service");
  const mode = node("span", { class: "mode" }), state = node("span", { class: "state" });
  const spark = shape("path", { class: "load" });
  const picture = shape("svg", { viewBox: "0 0 180 26", preserveAspectRatio: "none", "aria-hidden": "true" });
  picture.append(spark);
  const root = node("button", { class: "card", role: "tab", type: "button", "aria-controls": "service", id: `tab-${cards.size}` },
    node("span", { class: "head" }, node("span", { class: "name", title: name }, name), mode, state),
    node("span", { class: "row" }, loadBox, leadBox, unitsBox, useBox), picture);
  root.addEventListener("click", () => select(name));
  $("services").append(root);
  return { root, mode, state, load, lead, units, use, spark };
}

function spark(points) {
  const top = Math.max(1e-9, ...points.map(([, value]) => value ?? 0));
  let path = "", pen = "M";
  points.forEach(([, value], index) => {
    if (value === null) { pen = "M"; return; }
    path += `${pen}${(index * 180 / Math.max(1, points.length - 1)).toFixed(1)} ${(24 - value / top * 22).toFixed(1)}`;
    pen = "L";
  });
  return path;
}

function select(name) {
  ui.selected = name;
  ui.hover = null;
  history.replaceState(null, "", `#${encodeURIComponent(name)}`);
  draw();
}

$("services").addEventListener("keydown", (event) => {
  const names = [...cards.keys()], at = names.indexOf(ui.selected);
  const to = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: names.length - 1 }[event.key];
  if (to === undefined || names.length === 0) return;
  event.preventDefault();
  select(names[(to + names.length) % names.length]);
  cards.get(ui.selected).root.focus();
});

function drawService(service) {
  const { summary } = service;
  $("service").setAttribute("aria-labelledby", cards.get(summary.name).root.id);
  $("title").textContent = summary.name;
  const from = summary.model ? `${summary.model} (${summary.model_reason})` : `none (${summary.model_reason ?? "unknown"})`;
  $("facts").textContent = `${summary.signal} · ${number(summary.unit_capacity)} per unit · target ${summary.target} · ${summary.mode} · model ${from}`;
  $("faults").hidden = summary.degradations.length === 0;
  $("faults").classList.toggle("bad", ["blind", "failing"].includes(summary.condition));
  $("faults").replaceChildren(...summary.degradations.map((text) => node("li", {}, brief(text, model.status.now))));
  drawCharts(service);
  drawDecisions(service);
  drawPatterns(summary.name);
  list("models", service.model_events.slice().reverse(), "No drift, training or promotion yet.", (event) => [
    node("div", { class: "line" }, timeNode(event.at), node("span", { class: `kind ${event.kind}` }, event.kind.replaceAll("-", " "))),
    node("p", {}, event.text)]);
  const events = model.events.filter((event) => event.services.length === 0 || event.services.includes(summary.name));
  list("events", events, "No event is known for this service.", (event) => [
    node("div", { class: "line" }, node("span", { class: "what" }, event.id), node("span", { class: "kind" }, event.kind),
      event.expected_uplift ? `× ${event.expected_uplift} expected` : ""),
    node("p", {}, timeNode(event.start), " – ", timeNode(event.end))]);
  list("actuations", service.actuations.slice().reverse().slice(0, 20), "Nothing has been carried out.", (actuation) => [
    node("div", { class: "line" }, timeNode(actuation.at), node("span", { class: `kind ${actuation.outcome.kind}` }, actuation.outcome.kind),
      actuation.outcome.units === undefined ? "" : `${actuation.outcome.units} units${actuation.outcome.clamped ? ", clamped to the target's bounds" : ""}`),
    actuation.outcome.error ? node("p", {}, `${actuation.outcome.code}: ${actuation.outcome.error}`) : ""]);
}

/** Fills a list if its content has changed. */
function list(id, records, none, lines) {
  const at = $(id), key = ui.selected + JSON.stringify(records);
  if (at.dataset.key === key) return;
  at.dataset.key = key;
  at.replaceChildren(...(records.length ? records.map((record) => node("li", {}, ...lines(record))) : [node("li", { class: "none" }, none)]));
}

// ---- models and patterns

const known = { of: "", at: 0, asking: false };

/** What serves and what is known of the load, asked for when another service is shown and every half a minute. */
async function drawPatterns(name) {
  if (known.asking || (known.of === name && Date.now() - known.at < 30_000)) return;
  known.asking = true;
  try {
    const answer = await fetch(`/api/v1/services/${encodeURIComponent(name)}/models`);
    const body = await answer.json();
    if (!answer.ok) throw new Error(body.detail);
    Object.assign(known, { of: name, at: Date.now() });
    if (ui.selected === name) list("patterns", body.models ? findings(body.models) : [], "Nothing is known yet.", ([what, text]) => [
      node("div", { class: "line" }, node("span", { class: "what" }, what)), node("p", {}, text)]);
  } catch (error) {
    Object.assign(known, { of: name, at: Date.now() });
    list("patterns", [["", `Models can't be read: ${error.message}`]], "", ([, text]) => [node("p", {}, text)]);
  } finally {
    known.asking = false;
    if (ui.selected !== name) draw();
  }
}

const WEEKDAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const hours = (from, to) => `${String(from).padStart(2, "0")}–${String(to).padStart(2, "0")} h`;

/** Pairs of a title and a sentence. */
function findings({ readiness, scores, patterns }) {
  const found = [], add = (what, text) => found.push([what, text]);
  const zero = (span) => span !== null && /^0/.test(span);
  add("Forecast", [
    zero(readiness.forecast_in) ? readiness.reason : `none (${readiness.reason})${readiness.forecast_in ? `, in ${readiness.forecast_in}` : ""}`,
    zero(readiness.model_in) ? "" : readiness.model_in ? `LSTM in ${readiness.model_in} at the earliest` : "LSTM not foreseen"].filter(Boolean).join(" · "));
  const weights = Object.entries(scores.weights).filter(([, weight]) => weight >= 0.05).sort((one, other) => other[1] - one[1]);
  if (weights.length) add("Mix", weights.map(([kind, weight]) => `${kind} ${percent(weight)}`).join(" · "));
  const leads = Object.entries(scores.leads).filter(([, lead]) => lead.outcomes > 0);
  if (leads.length) add("Accuracy", leads.map(([lead, score]) => `${lead} ahead: MASE ${number(score.mase)}, p90 covers ${number(score.coverage_p90_pct)} %`).join(" · "));
  if (!patterns) return found;
  const { daily, weekly, trend, spikes, low_traffic, business_hours } = patterns;
  if (daily) add("Daily cycle", `peak at ${daily.peak} h (× ${number(daily.profile[daily.peak])}), trough at ${daily.trough} h (× ${number(daily.profile[daily.trough])}) · confidence ${percent(daily.confidence)}`);
  if (weekly) add("Weekly cycle", `most on ${WEEKDAYS[weekly.peak]}, least on ${WEEKDAYS[weekly.trough]} · confidence ${percent(weekly.confidence)}`);
  if (trend) add("Trend", `${trend.direction}, ${number(trend.change_per_day * 100)} % a day over ${trend.days} days · reliability ${percent(trend.reliability)}`);
  if (spikes && spikes.count) add("Spikes", `${number(spikes.per_day)} a day, ${spikes.mean_duration} long, ${number(spikes.mean_sigmas)} σ · reliability ${percent(spikes.reliability)}`);
  if (business_hours) add("Business hours", `${hours(business_hours.from_hour, business_hours.to_hour)} on weekdays, × ${number(business_hours.ratio)} · reliability ${percent(business_hours.reliability)}`);
  for (const quiet of low_traffic.slice(0, 2)) add("Quiet", `${hours(quiet.from_hour, quiet.to_hour)}, ${percent(quiet.load)} of the mean · reliability ${percent(quiet.reliability)}: time for maintenance`);
  return found;
}

// ---- decisions

const rows = new Map();

function drawDecisions(service) {
  const only = $("changes").checked;
  const shown = service.decisions.filter((decision) => !only || decision.kind !== "none").slice(-60).reverse();
  const ids = new Set(shown.map((decision) => decision.id));
  for (const [id] of rows) if (!ids.has(id)) rows.delete(id);
  for (const decision of shown) if (!rows.has(decision.id)) rows.set(decision.id, decisionRow(decision));
  const none = only ? "No change of capacity among the last decisions." : "No decision yet.";
  const want = shown.length ? shown.map((decision) => rows.get(decision.id)) : [node("li", { class: "none" }, none)];
  const have = [...$("decisions").children];
  if (shown.length === 0 || want.length !== have.length || want.some((row, index) => row !== have[index])) $("decisions").replaceChildren(...want);
}

function decisionRow(decision) {
  const before = decision.desired_before, name = { "scale-up": "scale up", "scale-down": "scale down", none: "hold" }[decision.kind];
  const units = before !== null && before !== decision.desired ? `${before} → ${decision.desired} units` : `${decision.desired} units`;
  const inputs = node("div", { class: "inputs" }, "Loading…");
  const details = node("details", { class: "decision" }, node("summary", {},
    node("span", { class: "line" }, timeNode(decision.at), node("span", { class: `kind ${decision.kind}` }, name ?? decision.kind),
      node("span", { class: "what" }, units), node("span", { class: "more" }, "inputs")),
    ...decision.reasons.map((text) => node("span", { class: "reason", title: text }, brief(text, decision.at)))), inputs);
  details.addEventListener("toggle", () => { if (details.open) explain(decision.id, inputs); });
  return node("li", {}, details);
}

async function explain(id, at) {
  if (at.dataset.done) return;
  try {
    const answer = await fetch(`/api/v1/decisions/${encodeURIComponent(id)}`);
    const body = await answer.json();
    if (!answer.ok) throw new Error(body.detail);
    const { inputs } = body, lead = inputs.lead_time, target = inputs.target, forecast = inputs.forecast;
    const facts = [
      ["load", `${number(inputs.load)} in the window that ended ${inputs.load_window_end ?? "–"}`],
      ["forecast", forecast ? `${forecast.model} (${forecast.reason}), ${forecast.quantile}-quantile ${forecast.upper.map(number).join(" ")} from ${forecast.from}` : `none: ${inputs.forecast_missing}`],
      ["lead time", `data ${lead.data_age} + interval ${lead.decision_interval} + provisioning ${lead.provisioning_latency} + warm-up ${lead.warm_up}`],
      ["target", target ? `${target.desired} wanted, ${number(target.ready)} ready, bounds ${number(target.min)}–${number(target.max)}` : "could not be observed"],
      ["rules", body.reasons.map((reason) => `${reason.code} → ${reason.units}`).join(", ")],
    ];
    at.replaceChildren(node("dl", {}, ...facts.flatMap(([name, value]) => [node("dt", {}, name), node("dd", {}, value)])),
      node("p", { class: "muted" }, "Recompute: ", node("code", {}, `prescale explain '${id}'`)),
      node("details", {}, node("summary", {}, "All of it"), node("pre", { tabindex: "0" }, JSON.stringify(body, null, 1))));
    at.dataset.done = "yes";
  } catch (error) {
    at.textContent = `The decision can't be read: ${error.message}`;
  }
}

$("changes").addEventListener("change", draw);

// ---- charts

function drawCharts(service) {
  const step = model.status.step_seconds * 1000, now = Date.parse(model.status.now);
  const ahead = fan(service.forecast);
  const end = Math.max(ahead.length ? ahead[ahead.length - 1].to : now, now + ui.range * MINUTE * 0.04);
  const scope = { service, step, now, ahead, from: now - ui.range * MINUTE, to: end, unit: service.summary.unit_capacity };
  scope.load = service.load.filter(([start]) => start + step > scope.from);
  const first = service.capacity.findIndex(([at]) => at > scope.from);
  scope.capacity = first < 0 ? service.capacity.slice(-1) : service.capacity.slice(Math.max(0, first - 1));
  ui.scope = scope;
  ui.charts = [chart("plot-load", scope, 300, paintLoad), chart("plot-capacity", scope, 230, paintCapacity)];
  drawHover();
}

/** The steps of a forecast as {from, to, low, mid, high, …}. */
function fan(forecast) {
  if (!forecast) return [];
  const at = (values, level) => {
    const index = forecast.levels.findIndex((have) => have >= level - 1e-9);
    return values[index < 0 ? values.length - 1 : index];
  };
  return forecast.values.map((values, index) => {
    const from = forecast.origin + (index + 1) * forecast.step;
    return { from, to: from + forecast.step, low: at(values, 0.05), quarter: at(values, 0.25), mid: at(values, 0.5), half: at(values, 0.75), high: at(values, 0.95) };
  });
}

function chart(id, scope, tall, paint) {
  const place = $(id), width = Math.max(280, place.clientWidth), height = width < 560 ? Math.round(tall * 0.78) : tall;
  let svg = place.querySelector("svg");
  if (!svg) { svg = shape("svg", { role: "img", tabindex: "0" }); place.replaceChildren(svg); listen(svg); }
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("height", height);
  const box = { left: 50, right: width - 12, top: 10, bottom: height - 24 };
  const marks = [];
  const made = { svg, box, x: (moment) => box.left + (moment - scope.from) / (scope.to - scope.from) * (box.right - box.left), add: (...all) => marks.push(...all) };
  const top = ceiling(scope, id === "plot-capacity");
  const ticks = steps(top, height < 220 ? 3 : 5);
  const reach = ticks[ticks.length - 1];
  made.y = (value) => box.bottom - value / reach * (box.bottom - box.top);
  axes(made, scope, ticks);
  paint(made, scope);
  const line = shape("line", { class: "now", x1: made.x(scope.now), x2: made.x(scope.now), y1: box.top, y2: box.bottom });
  made.hover = shape("g", {});
  svg.replaceChildren(...marks, line, made.hover);
  return made;
}

function ceiling({ load, ahead, capacity, unit }, supply) {
  const values = load.map(([, value]) => value ?? 0).concat(ahead.map((one) => one.high));
  if (supply) capacity.forEach(([, desired, ready]) => values.push(desired * unit, (ready ?? 0) * unit));
  return Math.max(...values) > 0 ? Math.max(...values) * 1.04 : 1;
}

function steps(top, count) {
  const rough = top / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((base) => base * power).find((size) => size >= rough);
  return Array.from({ length: Math.ceil(top / step) + 1 }, (_, index) => index * step);
}

function axes({ box, x, y, add }, scope, ticks) {
  for (const value of ticks) {
    add(shape("line", { class: "grid", x1: box.left, x2: box.right, y1: y(value), y2: y(value) }));
    add(shape("text", { class: "axis", x: box.left - 7, y: y(value) + 4, "text-anchor": "end" }, number(value)));
  }
  const span = (scope.to - scope.from) / MINUTE, room = (box.right - box.left) / 62;
  const every = [5, 10, 15, 30, 60, 120, 180, 240, 360, 720].find((minutes) => span / minutes <= room) * MINUTE;
  for (let at = Math.ceil(scope.from / every) * every; at <= scope.to; at += every) {
    if (x(at) > box.right - 14 || x(at) < box.left + 8) continue;
    add(shape("line", { class: "grid", x1: x(at), x2: x(at), y1: box.top, y2: box.bottom }));
    add(shape("text", { class: "axis", x: x(at), y: box.bottom + 16, "text-anchor": "middle" }, at % (1440 * MINUTE) === 0 ? day(at).slice(5) : clock(at)));
  }
}

/** A path through [moment, value], broken at null. */
function trace({ x, y }, points) {
  let path = "", pen = "M";
  for (const [moment, value] of points) {
    if (value === null || value === undefined) { pen = "M"; continue; }
    path += `${pen}${x(moment).toFixed(1)} ${y(value).toFixed(1)}`;
    pen = "L";
  }
  return path;
}

function band({ x, y }, points, low, high) {
  const along = (list, key) => list.map((one) => `${x((one.from + one.to) / 2).toFixed(1)} ${y(one[key]).toFixed(1)}`).join("L");
  return points.length ? `M${along(points, high)}L${along(points.slice().reverse(), low)}Z` : "";
}

const middles = (scope) => scope.load.map(([start, value]) => [Math.max(scope.from, start + scope.step / 2), value]);

function paintLoad(plot, scope) {
  const { box, x, add } = plot;
  backdrop(plot, scope, true);
  add(shape("path", { class: "band-wide", d: band(plot, scope.ahead, "low", "high") }));
  add(shape("path", { class: "band-half", d: band(plot, scope.ahead, "quarter", "half") }));
  add(shape("path", { class: "median", d: trace(plot, scope.ahead.map((one) => [(one.from + one.to) / 2, one.mid])) }));
  add(shape("path", { class: "load", d: trace(plot, middles(scope)) }));
  const { summary } = scope.service;
  if (scope.load.length === 0) note(plot, summary.condition === "waiting" ? `Waiting for the first ${summary.signal}` : "No data in this range");
  else if (scope.ahead.length === 0 && box.right - x(scope.now) > 0) {
    add(shape("text", { class: "axis", x: box.right - 4, y: box.bottom - 6, "text-anchor": "end" }, `no forecast: ${summary.model_reason ?? "not made yet"}`));
  }
  plot.svg.setAttribute("aria-label", `Load of ${summary.name}: ${number(summary.load?.value)} ${summary.signal} now; forecast ${
    summary.forecast_at_lead ? `at most ${number(summary.forecast_at_lead.upper)} at the lead time` : "missing"}. Arrow keys read values.`);
}

function paintCapacity(plot, scope) {
  const { x, y, box, add } = plot, { unit, capacity, now } = scope;
  backdrop(plot, scope, false);
  const stairs = (pick) => {
    let path = "", last = null;
    for (const point of capacity) {
      const value = pick(point);
      if (value === null || value === undefined) { last = null; continue; }
      const left = x(Math.max(scope.from, point[0])).toFixed(1), level = y(value * unit).toFixed(1);
      path += last === null ? `M${left} ${level}` : `H${left}V${level}`;
      last = level;
    }
    return last === null ? path : `${path}H${x(now).toFixed(1)}`;
  };
  const ready = stairs(([, , units]) => units), demand = middles(scope);
  if (ready && !ready.slice(1).includes("M")) add(shape("path", { class: "ready-area", d: `${ready}V${box.bottom}H${ready.slice(1).split(" ")[0]}Z` }));
  let short = "";
  for (const [start, value] of scope.load) {
    const supply = supplyAt(scope, start), left = Math.max(scope.from, start);
    if (value === null || supply === null || value <= supply) continue;
    short += `M${x(left).toFixed(1)} ${y(supply).toFixed(1)}V${y(value).toFixed(1)}H${x(start + scope.step).toFixed(1)}V${y(supply).toFixed(1)}Z`;
  }
  add(shape("path", { class: "short", d: short }));
  add(shape("path", { class: "demand-ahead", d: trace(plot, scope.ahead.map((one) => [(one.from + one.to) / 2, one.high])) }));
  add(shape("path", { class: "demand", d: trace(plot, demand) }));
  add(shape("path", { class: "desired", d: stairs(([, units]) => units) }));
  add(shape("path", { class: "ready", d: ready }));
  if (capacity.length === 0) note(plot, "No capacity has been observed");
  const { summary } = scope.service;
  plot.svg.setAttribute("aria-label", `Capacity of ${summary.name}: ${number(summary.ready)} units ready, ${number(summary.desired)} wanted, ${percent(summary.utilization)} in use.`);
}

/** Capacity in service at a moment, in the unit of the load. */
function supplyAt({ service, unit }, moment) {
  const point = service.capacity.findLast(([at]) => at <= moment);
  return point && point[2] !== null ? point[2] * unit : null;
}

/** Gaps and known events behind the lines. */
function backdrop({ box, x, add }, scope, labels) {
  const within = (from, to) => ({ x: x(Math.max(from, scope.from)), y: box.top, width: Math.max(1, x(Math.min(to, scope.to)) - x(Math.max(from, scope.from))), height: box.bottom - box.top });
  for (const event of model.events) {
    const from = Date.parse(event.start), to = Date.parse(event.end), mine = event.services.length === 0 || event.services.includes(ui.selected);
    if (!mine || to < scope.from || from > scope.to) continue;
    const area = within(from, to);
    add(shape("rect", { class: "event", ...area }));
    const wide = area.width > 120, place = wide ? { x: area.x + area.width / 2, "text-anchor": "middle" } : { x: area.x + area.width - 3, "text-anchor": "end" };
    if (labels) add(shape("text", { class: "event-text", y: box.bottom - 6, ...place }, `${event.id}${event.expected_uplift ? ` ×${event.expected_uplift}` : ""}`));
  }
  let begun = null;
  const close = (to) => {
    if (begun === null) return;
    const area = within(begun, to);
    add(shape("rect", { class: "gap", ...area }));
    if (labels && area.width > 44) add(shape("text", { class: "axis", x: area.x + area.width / 2, y: box.top + 14, "text-anchor": "middle" }, "no data"));
    begun = null;
  };
  for (const [start, value] of scope.load) if (value === null) begun ??= start; else close(start);
  close(scope.now);
}

function note({ box, add }, text) {
  add(shape("text", { class: "axis", x: (box.left + box.right) / 2, y: (box.top + box.bottom) / 2, "text-anchor": "middle" }, text));
}

// ---- reading values

function listen(svg) {
  svg.addEventListener("pointermove", (event) => {
    const area = svg.getBoundingClientRect(), { box } = ui.charts[0], scale = svg.viewBox.baseVal.width / area.width;
    const share = ((event.clientX - area.left) * scale - box.left) / (box.right - box.left);
    hover(share < 0 || share > 1 ? null : ui.scope.from + share * (ui.scope.to - ui.scope.from), svg);
  });
  svg.addEventListener("pointerleave", () => hover(null, svg));
  svg.addEventListener("blur", () => hover(null, svg));
  svg.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1, PageUp: -15, PageDown: 15 }[event.key];
    if (event.key === "Escape") hover(null, svg);
    if (move === undefined) return;
    event.preventDefault();
    const at = (ui.hover?.at ?? ui.scope.now - ui.scope.step / 2) + move * ui.scope.step;
    hover(Math.min(Math.max(at, ui.scope.from), ui.scope.to), svg);
  });
}

function hover(at, svg) {
  ui.hover = at === null ? null : { at, svg };
  drawHover();
}

function drawHover() {
  const tip = $("tip");
  ui.charts.forEach(({ hover: group }) => group.replaceChildren());
  tip.hidden = !ui.hover;
  if (!ui.hover) return;
  const { scope } = ui, start = Math.floor(ui.hover.at / scope.step) * scope.step, middle = start + scope.step / 2;
  const load = scope.load.find(([at]) => at === start), ahead = scope.ahead.find((one) => one.from === start);
  const point = start < scope.now ? scope.service.capacity.findLast(([at]) => at <= start) : undefined, supply = point ? supplyAt(scope, start) : null;
  const units = (count) => (count === null ? "unknown" : `${count} units · ${number(count * scope.unit)}`);
  const lines = [];
  if (load) lines.push(["load", load[1] === null ? "gap" : number(load[1])]);
  if (ahead) lines.push(["median", number(ahead.mid)], ["5–95 %", `${number(ahead.low)} – ${number(ahead.high)}`], ["25–75 %", `${number(ahead.quarter)} – ${number(ahead.half)}`]);
  if (point) lines.push(["ready", units(point[2])], ["wanted", units(point[1])]);
  if (supply && load && load[1] !== null) lines.push(["in use", percent(load[1] / supply)]);
  if (lines.length === 0) lines.push(["", "nothing known"]);
  tip.replaceChildren(node("h4", {}, `${day(start)} ${clock(start)} – ${clock(start + scope.step)} UTC`),
    ...lines.map(([name, value]) => node("p", {}, node("span", {}, name), node("b", {}, value))));
  const [top, low] = ui.charts;
  for (const { hover: group, box, x } of ui.charts) group.append(shape("line", { class: "cross", x1: x(middle), x2: x(middle), y1: box.top, y2: box.bottom }));
  if (load && load[1] !== null) top.hover.append(shape("circle", { class: "dot l", r: 4, cx: top.x(middle), cy: top.y(load[1]) }));
  if (ahead) top.hover.append(shape("circle", { class: "dot m", r: 4, cx: top.x(middle), cy: top.y(ahead.mid) }));
  if (supply !== null) low.hover.append(shape("circle", { class: "dot r", r: 4, cx: low.x(middle), cy: low.y(supply) }));
  const area = $("charts").getBoundingClientRect(), own = ui.hover.svg.getBoundingClientRect(), at = own.left - area.left + top.x(middle);
  tip.style.top = `${own.top - area.top + 14}px`;
  tip.style.left = `${at + 16 + tip.offsetWidth > area.width ? Math.max(0, at - 16 - tip.offsetWidth) : at + 16}px`;
}

// ---- start

function legend(id, entries) {
  $(id).replaceChildren(...entries.map(([kind, text]) => {
    const picture = shape("svg", { viewBox: "0 0 20 10", "aria-hidden": "true" });
    picture.append(/band|short|gap|event/.test(kind) ? shape("rect", { class: kind, width: 20, height: 10 }) : shape("path", { class: kind, d: "M0 5H20" }));
    return node("li", {}, picture, text);
  }));
}

legend("legend-load", [["load", "load"], ["median", "median"], ["band-half", "25–75 %"], ["band-wide", "5–95 %"], ["event", "event"], ["gap", "no data"]]);
legend("legend-capacity", [["demand", "demand"], ["demand-ahead", "95 % forecast"], ["ready", "in service"], ["desired", "wanted"], ["short", "too little"]]);
for (const [label, minutes] of RANGES) {
  const button = node("button", { type: "button", "aria-pressed": minutes === ui.range }, label);
  button.addEventListener("click", () => {
    ui.range = minutes;
    for (const other of $("ranges").children) other.setAttribute("aria-pressed", other === button);
    draw();
  });
  $("ranges").append(button);
}
addEventListener("resize", schedule);
/** The service that the address names; empty where it names none or can't be decoded. */
function named() {
  try { return decodeURIComponent(location.hash.slice(1)); } catch { return ""; }
}

ui.selected = named();
addEventListener("hashchange", () => select(named()));
fetch("/api/v1/snapshot").then((answer) => answer.json()).then((frame) => { take(frame); follow(); }, () => { lost(); follow(); });
