// The frontier, sorting, and the start of it all.
const front = { hidden: new Set(), scale: "root", box: null, points: [], at: -1 };

function colour(name) {
  if (name === "prescale") return "var(--accent)";
  if (name === "oracle") return "var(--limit)";
  const others = data.order.filter((other) => other !== "prescale" && other !== "oracle");
  return `var(--s${others.indexOf(name) % 11 + 1})`;
}

/** The points of each system: those of its sweep and the one in the score card, by cost. */
function frontier(name) {
  const score = data.systems?.[name], cost = score?.cost_usd ?? null, short = score?.violations?.time_pct ?? null;
  const swept = (data.frontier?.[name] ?? []).map(([cost, short], index) => ({ name, cost, short, path: `frontier.${name}.${index}` }));
  swept.sort((a, b) => a.cost - b.cost);
  const chosen = cost === null || short === null ? null : { name, cost, short, chosen: true, path: `systems.${name}` };
  return { name, swept, chosen };
}

function drawFrontier() {
  const names = [...new Set([...data.order, ...Object.keys(data.frontier ?? {})])];
  const all = names.map(frontier).filter(({ swept, chosen }) => swept.length || chosen);
  const shown = all.filter(({ name }) => !front.hidden.has(name));
  const box = front.box = canvas("plot-frontier", 380, "Cost in USD against percent of time short, by system");
  const points = shown.flatMap(({ swept, chosen }) => [...swept, ...(chosen ? [chosen] : [])]);
  const top = Math.max(data.budget_pct ?? 0, 0.01, ...points.map((point) => point.short)), most = Math.max(0.01, ...points.map((point) => point.cost));
  const bent = front.scale === "root" ? Math.sqrt : (value) => value;
  const least = Math.min(most, ...points.map((point) => point.cost));
  const linear = steps(top, 5), allCosts = steps(most, (box.width < 520 ? 4 : 8) * (least > most * 0.3 ? 1.5 : 1));
  // Where even the cheapest costs a good part of the dearest, the axis does not begin at 0.
  const costs = least > most * 0.3 ? allCosts.filter((cost, index) => (allCosts[index + 1] ?? Infinity) > least * 0.97) : allCosts;
  const round = [0, 0.01, 0.03, 0.1, 0.3, 1, 2, 5, 10, 20, 30, 50, 75, 100].filter((tick) => tick <= top * 1.02 && (tick === 0 || Math.sqrt(tick / top) > 0.06));
  const ticks = front.scale === "root" ? round : linear, reach = front.scale === "root" ? top * 1.04 : linear[linear.length - 1];
  const x = (cost) => box.left + (cost - costs[0]) / (costs[costs.length - 1] - costs[0]) * (box.right - box.left);
  const y = (short) => box.bottom - 14 - bent(Math.max(0, short) / reach) * (box.bottom - 14 - box.top);
  yAxis(box, ticks, y);
  for (const cost of costs) {
    box.add(shape("line", { class: "grid", x1: x(cost), x2: x(cost), y1: box.top, y2: box.bottom - 14 }));
    xText(box, x(cost), number(cost));
  }
  box.add(shape("text", { class: "axis", x: box.right, y: box.bottom - 18, "text-anchor": "end" }, "USD"), shape("text", { class: "axis", x: box.left + 5, y: box.top + 6 }, "% of time short"));
  if (data.budget_pct !== null && data.budget_pct !== undefined) {
    box.add(shape("line", { class: "budget", x1: box.left, x2: box.right, y1: y(data.budget_pct), y2: y(data.budget_pct) }));
    box.add(shape("text", { class: "budget-text", x: box.right - 2, y: y(data.budget_pct) - 4, "text-anchor": "end" }, "budget"));
  }
  // Prescale is drawn last, over the others.
  const order = [...shown].sort((a, b) => (a.name === "prescale") - (b.name === "prescale"));
  const places = [];
  for (const { name, swept, chosen } of order) {
    const group = shape("g", { style: `--ink: ${colour(name)}` }), ours = name === "prescale";
    group.append(shape("path", { class: ours ? "series our" : "series", d: line(swept.map((point) => [x(point.cost), y(point.short)])), ...(name === "oracle" ? { "stroke-dasharray": "4 3" } : {}) }));
    for (const point of swept) group.append(shape("circle", { class: "dot", cx: x(point.cost), cy: y(point.short), r: ours ? 3.2 : 2.2 }));
    const anchor = chosen ?? swept[swept.length - 1];
    if (chosen) group.append(shape("circle", { class: "ring", cx: x(chosen.cost), cy: y(chosen.short), r: ours ? 6 : 4.5 }));
    places.push({ name, group, x: x(anchor.cost), y: y(anchor.short) });
    box.add(group);
  }
  if (box.width >= 640) label(box, places);
  front.points = points.map((point) => ({ ...point, x: x(point.cost), y: y(point.short) })).sort((a, b) => a.x - b.x || a.y - b.y);
  box.marks = shape("g");
  box.add(box.marks);
  $("legend-frontier").replaceChildren(...all.map(({ name }) => {
    const sample = shape("svg", { viewBox: "0 0 22 10", "aria-hidden": "true", style: `--ink: ${colour(name)}` });
    sample.append(shape("path", { class: name === "prescale" ? "series our" : "series", d: "M0 5H22" }), shape("circle", { class: "dot", cx: 11, cy: 5, r: 3 }));
    const button = node("button", { type: "button", "aria-pressed": String(!front.hidden.has(name)) }, sample, name);
    button.addEventListener("click", () => {
      if (!front.hidden.delete(name)) front.hidden.add(name);
      drawFrontier();
      [...$("legend-frontier").children].find((other) => other.textContent === name)?.focus();
    });
    return button;
  }));
}

/** Names beside the points, moved apart so that none covers another. */
function label(box, places) {
  const taken = [];
  for (const place of [...places].reverse()) {
    const wide = place.name.length * 6.6, left = place.x + 10 + wide > box.right ? place.x - 10 - wide : place.x + 10;
    const free = (y) => taken.every((other) => Math.abs(other.y - y) >= 12 || left > other.left + other.wide || left + wide < other.left);
    const tries = [4, -8, 16, -20, 28, -32, 40, -44].map((away) => place.y + away).filter((y) => y > box.top && y < box.bottom - 14);
    const y = tries.find(free);
    if (y === undefined) continue;
    taken.push({ left, wide, y });
    place.group.append(shape("text", { class: "name", x: left, y }, place.name));
  }
}

function showPoint(index, event) {
  const point = front.points[index], { box } = front;
  front.at = index;
  box.marks.replaceChildren();
  if (!point) { hideTip(); return; }
  box.marks.append(shape("circle", { class: "near", cx: point.x, cy: point.y, r: 8 }));
  tip(event ?? inPage(box.svg, box, point.x, point.y), `${point.name}${point.chosen ? " (in the score card)" : ""}`, [["cost, USD", number(point.cost)], ["time short, %", number(point.short)]]);
}

function listenToFrontier() {
  const { svg } = front.box;
  svg.addEventListener("pointermove", (event) => {
    const [x, y] = inDrawing(svg, front.box, event);
    const away = front.points.map((point) => (point.x - x) ** 2 + (point.y - y) ** 2);
    const best = away.indexOf(Math.min(...away));
    showPoint(away[best] < 600 ? best : -1, event);
  });
  svg.addEventListener("pointerleave", () => showPoint(-1));
  svg.addEventListener("blur", () => showPoint(-1));
  svg.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") showPoint(-1);
    if (!by || front.points.length === 0) return;
    event.preventDefault();
    showPoint((front.at + by + front.points.length) % front.points.length);
  });
  for (const scale of ["root", "linear"]) {
    $(`scale-${scale}`).addEventListener("click", () => {
      front.scale = scale;
      for (const other of ["root", "linear"]) $(`scale-${other}`).setAttribute("aria-pressed", String(other === scale));
      drawFrontier();
    });
  }
}

function listenToSorting() {
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.querySelectorAll("thead th")];
    heads.forEach((head, column) => head.querySelector("button")?.addEventListener("click", () => {
      const direction = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      heads.forEach((other) => other.hasAttribute("aria-sort") && other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
      const value = (row) => Number(row.children[column].textContent.replaceAll(",", ""));
      const body = table.tBodies[0];
      // What is absent goes last, whichever the direction.
      body.append(...[...body.rows].sort((a, b) => {
        const [one, other] = [value(a), value(b)];
        if (Number.isNaN(one) || Number.isNaN(other)) return Number.isNaN(one) - Number.isNaN(other);
        return direction * (one - other);
      }));
    }));
  }
}

function draw() {
  drawFrontier();
  if (data.services.length) drawService();
}

function start() {
  $("forecast-part").hidden = !document.querySelector("#forecast-part tbody tr");
  $("per-service").hidden = data.services.length === 0;
  listenToSorting();
  if (data.services.length) {
    $("service").replaceChildren(...data.services.map((service, index) => node("option", { value: index }, service.name)));
    const show = (index) => {
      view.service = index;
      [view.from, view.to] = ends(current());
      view.at = null;
      view.forecast = Math.floor(current().forecasts.length / 2);
      drawService();
    };
    show(0);
    listenToCapacity();
    $("service").addEventListener("change", (event) => { hideTip(); show(Number(event.target.value)); });
    $("baseline").addEventListener("change", (event) => { view.baseline = event.target.value; drawService(); });
    $("fan").addEventListener("input", (event) => { view.forecast = Number(event.target.value); drawFan(); });
    $("changes").addEventListener("change", drawDecisions);
    for (const button of document.querySelectorAll("[data-zoom]")) {
      button.addEventListener("click", () => {
        const { zoom } = button.dataset, middle = view.at ?? (view.from + view.to) / 2;
        if (zoom === "in") zoomBy(0.5);
        else if (zoom === "out") zoomBy(2);
        else if (zoom === "all") zoomTo(...ends(current()));
        else zoomTo(middle - Number(zoom) / 2, middle + Number(zoom) / 2);
      });
    }
  }
  drawFrontier();
  listenToFrontier();
  let width = window.innerWidth;
  window.addEventListener("resize", () => { if (window.innerWidth !== width) { width = window.innerWidth; hideTip(); draw(); } });
  document.body.dataset.ready = "yes";
}

start();
