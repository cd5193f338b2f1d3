// What the library wrote: runs with their cards (run.json) and their curves as packed numbers.

const startedAt = performance.now();

const unpackNumber = (text) =>
  text === "n" ? NaN : text === "i" ? Infinity : text === "-i" ? -Infinity : Number(text);

function unpackNumbers(text) {
  return text ? Float64Array.from(text.split(","), unpackNumber) : new Float64Array(0);
}

// Differences in whole units; nothing if there are none, and NaN where the value has no meaning (-1).
function unpackDifferences(text, unit) {
  if (text === undefined) return null;
  const numbers = unpackNumbers(text);
  let sum = 0;
  for (let i = 0; i < numbers.length; ++i) {
    sum += numbers[i];
    numbers[i] = sum < 0 && unit !== 1 ? NaN : sum * unit;
  }
  return numbers;
}

// The means that thinned out points stand for; nothing between two commas is the one before.
function unpackMeans(text, values) {
  if (text === undefined) return values;
  let before = NaN;
  return Float64Array.from(text.split(","), (number, i) => {
    if (number !== "") before = unpackNumber(number);
    return Number.isFinite(before) && Number.isFinite(values[i]) ? before : values[i];
  });
}

function unpackCurve(curve, run) {
  const y = unpackNumbers(curve.value);
  const step = unpackDifferences(curve.step, 1);
  const epoch = unpackDifferences(curve.epoch, 0.001);
  const time = unpackDifferences(curve.time, 0.1);
  const since = run.card.started;
  return {
    name: curve.name,
    count: curve.count,
    run,
    y,
    mean: unpackMeans(curve.mean, y),
    axes: {step, epoch, time: time && time.map((seconds) => Math.max(0, seconds - since))},
  };
}

function readData() {
  const data = JSON.parse(document.getElementById("data").textContent);
  data.runs.forEach((run, index) => {
    run.index = index;
    run.title = [run.card.name, run.card.version].filter(Boolean).join("/") || "run " + (index + 1);
    run.curves = run.curves.map((curve) => unpackCurve(curve, run));
  });
  const haveOneName = new Set(data.runs.map((run) => run.card.name)).size === 1;
  for (const run of data.runs) run.shortTitle = (haveOneName && run.card.version) || run.title;
  return data;
}

// What the reader has set, kept while the page is loaded anew. Some browsers give files no storage.
const storageKey = "troupe report " + location.pathname;

const settings = Object.assign(
  {axis: "step", log: false, outliers: false, smoothing: 0.6, filter: "", zoom: null, paused: false, hiddenRuns: [],
   open: [], closed: [], scroll: 0, focus: ""},
  (() => {
    try {
      return JSON.parse(sessionStorage.getItem(storageKey)) || {};
    } catch {
      return {};
    }
  })());

function saveSettings() {
  try {
    sessionStorage.setItem(storageKey, JSON.stringify(settings));
  } catch {
    // The settings then last until the page is left.
  }
}
