// The list of charts, with what applies to all of them: axis, scale, smoothing, zoom and filter.

// Of all curves that are shown, so that the charts stand above each other step by step.
function wholeDomain() {
  let low = Infinity, high = -Infinity;
  for (const run of view.runs) {
    if (settings.hiddenRuns.includes(run.title)) continue;
    for (const curve of run.curves) {
      const {x} = pointsOver(curve, settings.axis);
      if (x.length === 0) continue;
      low = Math.min(low, x[0]);
      high = Math.max(high, x[x.length - 1]);
    }
  }
  if (low > high) return [0, 1];
  return low === high ? [low - 0.5, high + 0.5] : [low, high];
}

function domainOfX() {
  view.whole ||= wholeDomain();
  return settings.zoom || view.whole;
}

let frame = 0;
function requestFrame() {
  frame ||= requestAnimationFrame(() => {
    frame = 0;
    for (const chart of view.charts) {
      if (!chart.isVisible) continue;
      if (chart.isDirty) chart.draw();
      else chart.drawFront();
    }
  });
}

function redraw() {
  view.whole = null;
  for (const chart of view.charts) chart.isDirty = true;
  for (const chart of view.charts) if (settings.open.includes(chart.group.id + "-data")) chart.fillRows();
  requestFrame();
}

function drawAll() {
  const from = performance.now();
  for (const chart of view.charts) if (!chart.figure.hidden) chart.draw();
  document.documentElement.dataset.drawAllMs = (performance.now() - from).toFixed(1);
}

function change(name, value) {
  settings[name] = value;
  if (name === "axis") {
    settings.zoom = null;
    view.cursor = null;
    showZoom(null);
  }
  saveSettings();
  redraw();
}

function toggle(name, label, title) {
  return element("label", {class: "toggle", title},
    element("input", {type: "checkbox", id: "set-" + name, checked: settings[name], onchange: (event) => change(name, event.target.checked)}), label);
}

function axisChoice(axes) {
  return element("fieldset", {class: "choice"}, element("legend", {class: "hidden-text"}, "Horizontal axis"), axes.map((axis) =>
    element("label", {}, element("input", {type: "radio", name: "axis", id: "axis-" + axis, value: axis, checked: settings.axis === axis,
      onchange: () => change("axis", axis)}), element("span", {}, axisNames[axis]))));
}

function smoothingChoice() {
  const output = element("output", {for: "set-smoothing"}, settings.smoothing.toFixed(2));
  return element("label", {class: "slider", title: "Exponential moving average of curves of 30 points or more; the values themselves stay behind it"}, "Smoothing",
    element("input", {type: "range", id: "set-smoothing", min: 0, max: 0.99, step: 0.01, value: settings.smoothing, oninput: (event) => {
      output.textContent = Number(event.target.value).toFixed(2);
      change("smoothing", Number(event.target.value));
    }}), output);
}

function showZoom(text) {
  const reset = document.getElementById("reset");
  if (!reset) return;
  reset.hidden = !text;
  document.getElementById("zoomed").textContent = text || "";
}

function buildToolbar() {
  const axes = ["step", "epoch", "time"].filter((axis) =>
    view.runs.some((run) => run.curves.some((curve) => curve.axes[axis] && curve.axes[axis].some((value) => !Number.isNaN(value)))));
  if (!axes.includes(settings.axis)) Object.assign(settings, {axis: axes[0] || "step", zoom: null});
  const button = (id, text, label, act) => element("button", {type: "button", id, "aria-label": label, title: label, onclick: act}, text);
  const bar = element("div", {class: "card toolbar", role: "group", "aria-label": "Curves"},
    element("input", {type: "search", id: "filter", placeholder: "Filter metrics", "aria-label": "Filter metrics by name", value: settings.filter,
      oninput: (event) => {
        settings.filter = event.target.value;
        saveSettings();
        filterCharts();
      }}),
    axisChoice(axes), smoothingChoice(), toggle("log", "Log scale"),
    toggle("outliers", "Ignore outliers", "Scale to the middle 96 % of the values"),
    element("span", {class: "buttons"}, button("zoom-in", "+", "Zoom in", () => zoomBy(0.5)), button("zoom-out", "−", "Zoom out", () => zoomBy(2)),
      button("reset", "Reset zoom", "Reset zoom", () => setZoom(null))), element("span", {id: "zoomed"}));
  document.getElementById("toolbar").append(bar);
  const zoom = settings.zoom;
  showZoom(zoom && axisNames[settings.axis] + " " + axisValue(settings.axis, zoom[0]) + " to " + axisValue(settings.axis, zoom[1]));
}

// Every word must be in a curve's name.
function filterCharts() {
  const words = settings.filter.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const chart of view.charts) {
    chart.figure.hidden = !words.every((word) => chart.group.text.includes(word));
    shown += !chart.figure.hidden;
  }
  for (const block of document.querySelectorAll(".chart-kind")) block.hidden = !block.querySelector("figure:not([hidden])");
  const none = document.getElementById("no-charts");
  none.hidden = shown > 0;
  none.textContent = view.charts.length === 0 ? "No metrics have been logged so far." : "No metric has '" + settings.filter + "' in its name.";
  if (words.length) announce(plural(shown, "chart") + " shown");
  requestFrame();
}

function buildCharts() {
  view.groups = groupCurves(view.runs.flatMap((run) => run.curves));
  const list = document.getElementById("chart-list");
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) entry.target.chart.isVisible = entry.isIntersecting;
    requestFrame();
  }, {rootMargin: "300px"});
  const resized = new ResizeObserver((entries) => {
    for (const entry of entries) entry.target.chart.isDirty = true;
    requestFrame();
  });
  for (const kind of kinds) {
    const groups = view.groups.filter((group) => group.kind === kind);
    if (groups.length === 0) continue;
    const charts = groups.map((group) => {
      styleCurves(group, view.several);
      const chart = new Chart(group);
      chart.figure.chart = chart.plot.chart = chart;
      return chart;
    });
    view.charts.push(...charts);
    list.append(element("section", {class: "chart-kind", "aria-label": kind.title}, element("h3", {}, kind.title),
      element("div", {class: "grid"}, charts.map((chart) => chart.figure))));
    for (const chart of charts) {
      seen.observe(chart.figure);
      resized.observe(chart.plot);
    }
  }
  list.append(element("p", {id: "no-charts", class: "card notice", hidden: true}));
  filterCharts();
}
