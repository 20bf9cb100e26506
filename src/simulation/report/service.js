// One service: capacity against demand, decisions, forecast, calibration.
const view = { service: 0, baseline: "", from: 0, to: 1, at: null, drag: null, box: null, forecast: 0 };
const current = () => data.services[view.service];
const startOf = (service) => Date.parse(service.start);
const KIND = { "scale-up": "scale up", "scale-down": "scale down", none: "hold" };
const DECISIONS_SHOWN = 200;

function ends(service) {
  const last = Math.max(service.length_seconds, ...Object.values(service.capacity).map((curve) => curve.t[curve.t.length - 1] ?? 0));
  return [0, Math.max(last, service.step_seconds)];
}

function zoomTo(from, to) {
  const service = current(), [first, last] = ends(service);
  const least = Math.min(last - first, 10 * service.step_seconds);
  const width = Math.min(Math.max(to - from, least), last - first);
  const begin = Math.min(Math.max(from, first), last - width);
  [view.from, view.to] = [begin, begin + width];
  drawCapacity();
}

function zoomBy(factor, around = view.at ?? (view.from + view.to) / 2) {
  zoomTo(around - (around - view.from) * factor, around + (view.to - around) * factor);
}

const peak = (curve, from, to) => {
  let top = 0;
  for (let index = Math.max(0, indexAt(curve.t, from)); index < curve.t.length && curve.t[index] <= to; index += 1) top = Math.max(top, curve.v[index] ?? 0);
  return top;
};

function drawCapacity() {
  const service = current(), start = startOf(service), { from, to } = view;
  const ours = service.capacity.prescale, theirs = service.capacity[view.baseline];
  const box = view.box = canvas("plot-capacity", 300, `Units over time of ${service.name}: needed, ready by Prescale and by ${view.baseline || "no baseline"}`);
  const top = Math.max(1, ...[service.needed, ours, theirs].filter(Boolean).map((curve) => peak(curve, from, to)));
  const ticks = steps(top, 5), reach = ticks[ticks.length - 1];
  box.x = (at) => box.left + (at - from) / (to - from) * (box.right - box.left);
  box.y = (units) => box.bottom - units / reach * (box.bottom - box.top);
  box.inverse = (x) => from + (Math.min(Math.max(x, box.left), box.right) - box.left) / (box.right - box.left) * (to - from);
  yAxis(box, ticks, box.y);
  for (const tick of timeTicks(start + from * 1000, start + to * 1000, box.width / 75)) xText(box, box.x((tick.at - start) / 1000), tick.text);
  box.add(shape("path", { class: "demand-area", d: closed(service.needed, box) }));
  if (ours) box.add(shape("path", { class: "short", d: shortage(service.needed, ours, box) }));
  if (theirs) box.add(shape("path", { class: "theirs", d: stairs(theirs, from, to, box.x, box.y) }));
  box.add(shape("path", { class: "demand", d: stairs(service.needed, from, to, box.x, box.y) }));
  if (ours) box.add(shape("path", { class: "ours", d: stairs(ours, from, to, box.x, box.y) }));
  const changes = service.decisions.filter((decision) => decision.kind !== "none" && decision.at >= from && decision.at <= to);
  const crowded = changes.length * 6 > box.right - box.left;
  for (const decision of changes) {
    const x = box.x(decision.at), up = decision.kind === "scale-up", y = box.top - 6;
    const mark = crowded ? `M${x - 0.5} ${y}h1v6h-1z` : up ? `M${x - 3.5} ${y + 6}h7l-3.5 -6z` : `M${x - 3.5} ${y}h7l-3.5 6z`;
    box.add(shape("path", { class: `mark ${decision.kind}`, d: mark }));
  }
  box.marks = shape("g");
  box.add(box.marks);
  drawOverview();
  drawDecisions();
  drawReading();
  const all = ends(service);
  for (const button of document.querySelectorAll("[data-zoom]")) {
    const length = button.dataset.zoom === "all" ? all[1] - all[0] : Number(button.dataset.zoom);
    const whole = to - from >= all[1] - all[0] - 1;
    if (!Number.isNaN(length)) button.setAttribute("aria-pressed", String(whole ? button.dataset.zoom === "all" : Math.abs(length - (to - from)) < 1));
  }
}

function closed(curve, box) {
  const path = stairs(curve, view.from, view.to, box.x, box.y);
  // Each stretch between gaps is closed along the bottom.
  return path.split("M").filter(Boolean).map((part) => {
    const ends = [...part.matchAll(/(?:H|^)(-?[\d.]+)/g)];
    return `M${part}V${box.bottom}H${ends[0][1]}z`;
  }).join("");
}

/** Rectangles where fewer units are ready than needed. */
function shortage(needed, ready, box) {
  const { from, to } = view, parts = [];
  const moments = [...new Set([from, ...needed.t, ...ready.t, to])].filter((at) => at >= from && at <= to).sort((a, b) => a - b);
  for (let index = 0; index + 1 < moments.length; index += 1) {
    const want = valueAt(needed, moments[index]), have = valueAt(ready, moments[index]);
    if (want !== null && have !== null && have < want) {
      const [left, right] = [box.x(moments[index]), Math.max(box.x(moments[index + 1]), box.x(moments[index]) + 0.7)];
      parts.push(`M${left.toFixed(1)} ${box.y(have).toFixed(1)}H${right.toFixed(1)}V${box.y(want).toFixed(1)}H${left.toFixed(1)}z`);
    }
  }
  return parts.join("");
}

function drawOverview() {
  const service = current(), [first, last] = ends(service);
  const box = view.small = canvas("plot-overview", 54, "The window of the chart above within the whole time", false);
  box.bottom = box.height - 4;
  box.top = 4;
  const reach = Math.max(1, peak(service.needed, first, last));
  box.x = (at) => box.left + (at - first) / (last - first) * (box.right - box.left);
  box.inverse = (x) => first + (x - box.left) / (box.right - box.left) * (last - first);
  const y = (units) => box.bottom - units / reach * (box.bottom - box.top);
  box.add(shape("path", { class: "demand", d: stairs(service.needed, first, last, box.x, y) }));
  const [left, right] = [box.x(view.from), box.x(view.to)];
  const rect = (kind, x, width) => shape("rect", { class: kind, x, y: 1, width: Math.max(0, width), height: box.height - 2 });
  box.add(rect("outside", box.left, left - box.left), rect("outside", right, box.right - right), rect("window", left, right - left));
  box.add(rect("handle", left - 3, 5), rect("handle", right - 2, 5));
}

/** What is at the cursor, in the tip and in words. */
function drawReading(event) {
  const { box } = view, service = current();
  box.marks.replaceChildren();
  if (view.at === null || view.at < view.from || view.at > view.to) { $("reading").textContent = ""; return; }
  const moment = startOf(service) + view.at * 1000, x = box.x(view.at);
  box.marks.append(shape("line", { class: "cross", x1: x, x2: x, y1: box.top, y2: box.bottom }));
  const rows = [["needed", number(valueAt(service.needed, view.at))], ["Prescale ready", number(valueAt(service.capacity.prescale, view.at))]];
  if (view.baseline) rows.push([`${view.baseline} ready`, number(valueAt(service.capacity[view.baseline], view.at))]);
  rows.push(["load", number(valueAt(service.load, view.at))]);
  const decision = nearest(service);
  const more = decision ? [`${when(startOf(service) + decision.at * 1000)}: ${KIND[decision.kind]} to ${decision.desired}`, ...decision.reasons] : [];
  $("reading").textContent = `${when(moment)} · ${rows.map(([name, value]) => `${name} ${value}`).join(" · ")}${more.length ? ` · ${more.join(" · ")}` : ""}`;
  tip(event ?? inPage(box.svg, box, x, box.top + 20), when(moment), rows, more);
  for (const row of $("decisions").children) row.classList.toggle("here", decision !== null && row.dataset.at === String(decision.at));
}

/** The change that is within a few pixels of the cursor, if any. */
function nearest(service) {
  const reach = 7 * (view.to - view.from) / (view.box.right - view.box.left);
  let best = null;
  for (const decision of service.decisions) {
    const away = Math.abs(decision.at - view.at);
    if (decision.kind !== "none" && away <= reach && (best === null || away < Math.abs(best.at - view.at))) best = decision;
  }
  return best;
}

function walkDecisions(direction) {
  const at = view.at ?? (direction > 0 ? view.from - 1 : view.to + 1);
  const changes = current().decisions.filter((decision) => decision.kind !== "none");
  const next = direction > 0 ? changes.find((decision) => decision.at > at) : changes.findLast((decision) => decision.at < at);
  if (next) goTo(next.at);
}

function goTo(at) {
  view.at = at;
  const width = view.to - view.from;
  if (at < view.from || at > view.to) zoomTo(at - width / 2, at + width / 2); else drawReading();
}

function drawDecisions() {
  const service = current(), path = (index) => `services.${view.service}.decisions.${index}`;
  const shown = service.decisions.map((decision, index) => ({ decision, index }))
    .filter(({ decision }) => decision.at >= view.from && decision.at <= view.to && (decision.kind !== "none" || !$("changes").checked));
  const rows = shown.slice(0, DECISIONS_SHOWN).map(({ decision, index }) => {
    const time = node("button", { type: "button" }, when(startOf(service) + decision.at * 1000));
    time.addEventListener("click", () => goTo(decision.at));
    return node("li", { "data-at": decision.at }, time, " ", node("span", { class: `kind ${decision.kind}` }, KIND[decision.kind] ?? decision.kind), " ",
      node("b", { "data-path": `${path(index)}.desired` }, String(decision.desired)), decision.desired === 1 ? " unit" : " units",
      ...decision.reasons.map((reason, place) => node("span", { class: "reason", "data-path": `${path(index)}.reasons.${place}` }, reason)));
  });
  $("decisions").replaceChildren(...(rows.length ? rows : [node("li", { class: "muted" }, "None.")]));
  const notes = [];
  if (shown.length > rows.length) notes.push(`The first ${rows.length} of ${shown.length}: zoom in to see the others.`);
  if (service.decisions_left_out > 0) notes.push(`${service.decisions_left_out} decisions of the whole time are left out of this page: they change nothing, or there are too many. The JSON file has them all.`);
  $("decisions-note").textContent = notes.join(" ");
}

function drawFan() {
  const service = current(), forecast = service.forecasts[view.forecast];
  $("fan-part").hidden = !forecast;
  if (!forecast) return;
  const step = service.step_seconds, start = startOf(service), { levels, values, actual } = forecast;
  $("fan-origin").textContent = `with all that was known at ${when(start + (forecast.origin + step) * 1000)}`;
  const from = forecast.actual_from, to = forecast.origin + (values.length + 1) * step;
  const box = canvas("plot-fan", 240, `Forecast of ${service.name} and the load that came`, false);
  const top = Math.max(1e-9, ...values.flat(), ...actual.filter((value) => value !== null));
  const ticks = steps(top, 4), reach = ticks[ticks.length - 1];
  const x = (at) => box.left + (at - from) / (to - from) * (box.right - box.left);
  const y = (load) => box.bottom - load / reach * (box.bottom - box.top);
  yAxis(box, ticks, y);
  for (const tick of timeTicks(start + from * 1000, start + to * 1000, box.width / 70)) xText(box, x((tick.at - start) / 1000), tick.text);
  const middle = (index) => x(forecast.origin + (index + 1.5) * step);
  const bands = levels.map((level, index) => [index, levels.length - 1 - index]).filter(([low, high]) => low < high);
  for (const [low, high] of bands) {
    const upper = values.map((row, index) => [middle(index), y(row[high])]), lower = values.map((row, index) => [middle(index), y(row[low])]).reverse();
    box.add(shape("path", { d: `${line([...upper, ...lower])}z`, fill: `rgba(var(--band), ${(0.34 / bands.length + 0.04).toFixed(3)})` }));
  }
  const half = levels.reduce((best, level, index) => (Math.abs(level - 0.5) < Math.abs(levels[best] - 0.5) ? index : best), 0);
  box.add(shape("path", { class: "median", d: line(values.map((row, index) => [middle(index), y(row[half])])) }));
  box.add(shape("path", { class: "load", d: line(actual.map((value, index) => (value === null ? null : [x(from + (index + 0.5) * step), y(value)]))) }));
  box.add(shape("line", { class: "origin", x1: x(forecast.origin + step), x2: x(forecast.origin + step), y1: box.top, y2: box.bottom }));
  box.svg.onpointermove = (event) => {
    const index = Math.floor((inDrawing(box.svg, box, event)[0] - x(forecast.origin + step)) / (x(step) - x(0)));
    if (index < 0 || index >= values.length) { hideTip(); return; }
    const came = actual[Math.round((forecast.origin - from) / step) + 1 + index];
    const rows = levels.map((level, place) => [`quantile ${level}`, number(values[index][place])]).reverse();
    tip(event, when(start + (forecast.origin + (index + 1) * step) * 1000), [["load", number(came)], ...rows]);
  };
  box.svg.onpointerleave = hideTip;
  key("legend-fan", [["load", "load"], ["median", levels[half] === 0.5 ? "median" : `quantile ${levels[half]}`], ...bands.slice(0, 1).map(([low, high]) => ["area:fan-area", `${levels[low]} to ${levels[high]}`])]);
  for (const area of document.querySelectorAll(".fan-area")) area.setAttribute("fill", "rgba(var(--band), .3)");
  const slider = $("fan");
  slider.max = service.forecasts.length - 1;
  slider.value = view.forecast;
  slider.setAttribute("aria-valuetext", when(start + (forecast.origin + step) * 1000));
}

function drawCalibration() {
  const points = current().calibration;
  $("calibration-part").hidden = points.length === 0;
  for (const row of document.querySelectorAll("#calibration tbody tr")) row.hidden = row.dataset.service !== String(view.service);
  if (points.length === 0) return;
  const box = canvas("plot-calibration", 240, "Promised against delivered coverage", false);
  const ticks = [0, 20, 40, 60, 80, 100], across = (pct) => box.left + pct / 100 * (box.right - box.left), y = (pct) => box.bottom - pct / 100 * (box.bottom - box.top);
  yAxis(box, ticks, y);
  for (const tick of ticks) xText(box, across(tick), `${tick} %`);
  box.add(shape("line", { class: "diagonal", x1: across(0), y1: y(0), x2: across(100), y2: y(100) }));
  box.add(shape("path", { class: "ours", d: line(points.map((point) => [across(point.level_pct), y(point.observed_pct)])) }));
  for (const point of points) {
    const dot = shape("circle", { class: "point", cx: across(point.level_pct), cy: y(point.observed_pct), r: 4 });
    dot.addEventListener("pointerenter", (event) => tip(event, `promised ${number(point.level_pct)} %`, [["delivered", `${number(point.observed_pct)} %`], ["forecasts", number(point.forecasts)]]));
    dot.addEventListener("pointerleave", hideTip);
    box.add(dot);
  }
}

function drawService() {
  const service = current(), names = data.order.filter((name) => name !== "prescale" && name in service.capacity);
  if (!names.includes(view.baseline)) view.baseline = names[0] ?? "";
  $("baseline").replaceChildren(...names.map((name) => node("option", { value: name }, name)));
  $("baseline").value = view.baseline;
  $("baseline").parentElement.hidden = names.length === 0;
  view.forecast = Math.min(view.forecast, Math.max(0, service.forecasts.length - 1));
  key("legend-capacity", [["demand", "units needed"], ["ours", "Prescale, ready"], ...(view.baseline ? [["theirs", `${view.baseline}, ready`]] : []), ["area:short", "Prescale short"]]);
  drawCapacity();
  drawFan();
  drawCalibration();
}

function listenToCapacity() {
  const main = view.box.svg, small = view.small.svg;
  main.addEventListener("pointermove", (event) => {
    const [x] = inDrawing(main, view.box, event);
    view.at = view.box.inverse(x);
    drawReading(event);
    if (view.drag?.kind === "zone") {
      const [left, right] = [Math.min(x, view.drag.x), Math.max(x, view.drag.x)];
      view.box.marks.append(shape("rect", { class: "zone", x: left, y: view.box.top, width: right - left, height: view.box.bottom - view.box.top }));
    }
  });
  main.addEventListener("pointerdown", (event) => {
    if (event.pointerType === "touch") return;
    main.setPointerCapture(event.pointerId);
    view.drag = { kind: "zone", x: inDrawing(main, view.box, event)[0] };
  });
  main.addEventListener("pointerup", (event) => {
    const drag = view.drag;
    view.drag = null;
    const [x] = inDrawing(main, view.box, event);
    if (drag && Math.abs(x - drag.x) > 8) zoomTo(...[view.box.inverse(drag.x), view.box.inverse(x)].sort((a, b) => a - b));
  });
  main.addEventListener("pointerleave", () => { if (!view.drag) { hideTip(); view.box.marks.replaceChildren(); } });
  main.addEventListener("dblclick", () => zoomTo(...ends(current())));
  main.addEventListener("blur", hideTip);
  main.addEventListener("keydown", (event) => {
    const width = view.to - view.from, walk = (by) => goTo(Math.min(Math.max((view.at ?? view.from) + by, ends(current())[0]), ends(current())[1]));
    const done = {
      ArrowLeft: () => (event.shiftKey ? zoomTo(view.from - width / 5, view.to - width / 5) : walk(-width / 60)),
      ArrowRight: () => (event.shiftKey ? zoomTo(view.from + width / 5, view.to + width / 5) : walk(width / 60)),
      PageDown: () => walkDecisions(1), PageUp: () => walkDecisions(-1),
      "+": () => zoomBy(0.5), "=": () => zoomBy(0.5), "-": () => zoomBy(2), Home: () => zoomTo(...ends(current())), Escape: hideTip,
    }[event.key];
    if (done) { event.preventDefault(); done(); }
  });
  small.addEventListener("pointerdown", (event) => {
    small.setPointerCapture(event.pointerId);
    const [x] = inDrawing(small, view.small, event), [left, right] = [view.small.x(view.from), view.small.x(view.to)];
    const at = view.small.inverse(x), near = 8, whole = right - left >= view.small.right - view.small.left - 1;
    const kind = Math.abs(x - left) < near ? "from" : Math.abs(x - right) < near ? "to" : x > left && x < right && !whole ? "move" : "new";
    view.drag = { kind, at, from: view.from, to: view.to };
  });
  small.addEventListener("pointermove", (event) => {
    const drag = view.drag;
    if (!drag || drag.kind === "zone") return;
    const at = view.small.inverse(inDrawing(small, view.small, event)[0]);
    if (drag.kind === "move") zoomTo(drag.from + at - drag.at, drag.to + at - drag.at);
    else if (drag.kind === "from") zoomTo(Math.min(at, drag.to), drag.to);
    else if (drag.kind === "to") zoomTo(drag.from, Math.max(at, drag.from));
    else if (Math.abs(at - drag.at) > 0) zoomTo(Math.min(at, drag.at), Math.max(at, drag.at));
  });
  small.addEventListener("pointerup", () => { view.drag = null; });
}
