// The page itself: builds its parts, and loads itself anew while the run goes on.

const refreshSeconds = 10;

function refreshSwitch() {
  return element("label", {class: "toggle refresh"}, element("input", {type: "checkbox", id: "renew", checked: !settings.paused, onchange: (event) => {
    settings.paused = !event.target.checked;
    saveSettings();
    announce(settings.paused ? "The page stays as it is" : "The page is renewed every " + refreshSeconds + " seconds");
  }}), "renew every " + refreshSeconds + " s");
}

// Not while somebody is about to do something: types, selects, drags, or looks elsewhere.
let touchedAt = -Infinity;
function isBusy() {
  return document.hidden || view.isHeld || performance.now() - touchedAt < 3000 || String(getSelection()) !== "" ||
    document.documentElement.classList.contains("printing");
}

function keepRenewing() {
  for (const kind of ["keydown", "pointerdown", "input", "wheel", "touchmove"]) {
    addEventListener(kind, () => (touchedAt = performance.now()), {passive: true, capture: true});
  }
  setInterval(() => {
    view.tellAge();
    if (settings.paused || isBusy()) return;
    rememberPlace();
    location.reload();
  }, refreshSeconds * 1000);
}

function rememberPlace() {
  settings.scroll = scrollY;
  settings.focus = document.activeElement && document.activeElement.id;
  settings.cursor = view.cursor;
  saveSettings();
}

function returnToPlace() {
  const focused = settings.focus && document.getElementById(settings.focus);
  if (focused) focused.focus({preventScroll: true});
  if (typeof settings.cursor === "number") view.cursor = settings.cursor;
  if (settings.scroll > 0) scrollTo({top: settings.scroll, behavior: "instant"});
  // A visit of one's own begins at the top.
  Object.assign(settings, {scroll: 0, focus: "", cursor: null});
  saveSettings();
}

function watchTheme() {
  const renew = () => {
    readTheme();
    redraw();
  };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", renew);
  addEventListener("beforeprint", () => {
    document.documentElement.classList.add("printing");
    readTheme();
    drawAll();
  });
  addEventListener("afterprint", () => {
    document.documentElement.classList.remove("printing");
    renew();
  });
}

function start() {
  const data = readData();
  view.runs = data.runs;
  view.written = data.written;
  view.several = data.runs.length > 1;
  readTheme();
  for (const run of data.runs) takeCrash(run.card);
  if (view.several) buildCompared();
  else if (data.runs.length === 1) buildStatus(data.runs[0]);
  else document.getElementById("status").append(element("h1", {}, "No runs"));
  buildToolbar();
  buildCharts();
  if (data.runs.length === 1) {
    buildFailure(data.runs[0].card);
    buildSections(data.runs[0]);
    if (data.runs[0].card.status === "running") keepRenewing();
  }
  fillJumps();
  document.getElementById("footer").append("Written " + moment(data.written) + " by Troupe");
  watchTheme();
  returnToPlace();
  // The observer has seen the charts by then, and the frame before has drawn them.
  const done = () => {
    if (view.charts.some((chart) => chart.isVisible && chart.isDirty)) return requestAnimationFrame(done);
    const {dataset} = document.documentElement;
    dataset.drawMs = (performance.now() - startedAt).toFixed(1);
    dataset.charts = view.charts.length;
    dataset.ready = "yes";
  };
  setTimeout(() => requestAnimationFrame(done), 0);
}

start();
