// Which curves stand in one chart, and what is drawn of them.

const roles = {train: "train", training: "train", val: "val", valid: "val", validation: "val", test: "test", eval: "val"};

// "val_loss/dataloader_idx_1" and "train_loss_step" both belong to "loss".
function nameParts(name) {
  let base = name.replace(/\/dataloader_idx_\d+$/, "").replace(/_(step|epoch)$/, "");
  const before = /^(train|training|val|valid|validation|test|eval)[_/.-](.+)$/i.exec(base);
  const after = before ? null : /^(.+)[/](train|training|val|valid|validation|test|eval)$/i.exec(base);
  let role = "";
  if (before) [role, base] = [roles[before[1].toLowerCase()], before[2]];
  if (after) [base, role] = [after[1], roles[after[2].toLowerCase()]];
  return {base, role};
}

const kinds = [
  {id: "metrics", title: "Metrics", has: () => true},
  {id: "rates", title: "Learning rates", has: (name) => /^lr-|^lr$|^learning_rate$/.test(name)},
  {id: "throughput", title: "Throughput", has: (name) => /(_per_sec(ond)?|throughput)(_step|_epoch)?$/i.test(name)},
  {id: "devices", title: "Devices", has: (name) => /^DeviceStatsMonitor/.test(name)},
];

const kindOf = (name) => kinds.slice(1).find((kind) => kind.has(name)) || kinds[0];

// Losses first, then what has both training and validation, then the rest, each by name.
function chartRank(group) {
  if (/loss/i.test(group.base)) return 0;
  return new Set(group.curves.map((curve) => curve.role)).size > 1 ? 1 : 2;
}

const roleOf = (name) => (kindOf(name).id === "rates" ? "" : nameParts(name).role);

// One group a chart: {id, kind, title, curves}. All learning rates share a chart.
function groupCurves(curves) {
  const groups = new Map();
  for (const curve of curves) {
    const kind = kindOf(curve.name);
    const parts = kind.id === "rates" ? {base: "learning rate", role: ""} : nameParts(curve.name);
    curve.role = parts.role;
    const key = kind.id + " " + parts.base;
    if (!groups.has(key)) groups.set(key, {key, kind, base: parts.base, curves: []});
    groups.get(key).curves.push(curve);
  }
  const order = {"": 0, train: 1, val: 2, test: 3};
  for (const group of groups.values()) {
    const names = new Set(group.curves.map((curve) => curve.name));
    group.title = names.size === 1 ? group.curves[0].name : group.base;
    for (const curve of group.curves) curve.title = group.title;
    group.curves.sort((a, b) => a.run.index - b.run.index || order[a.role] - order[b.role]);
    group.text = [...names, group.title].join("\n").toLowerCase();
  }
  const all = [...groups.values()].sort((a, b) => chartRank(a) - chartRank(b) || a.base.localeCompare(b.base, "en", {numeric: true}));
  all.forEach((group, index) => (group.id = "chart-" + index));
  return all;
}

// Of one run a colour a curve, the same for training and for validation in all charts; of several a colour a run, and
// dashes for the rest.
const dashes = [[], [6, 3], [2, 2], [8, 3, 2, 3]];
function styleCurves(group, severalRuns) {
  const fixed = {"": 0, train: 0, val: 1, test: 2};
  const used = new Set(group.curves.map((curve) => fixed[curve.role]));
  const taken = new Set();
  const places = new Map();
  for (const curve of group.curves) {
    if (severalRuns) {
      const place = (places.get(curve.run) || 0);
      places.set(curve.run, place + 1);
      curve.color = curve.run.index % 8;
      // A second curve of the run in the chart that is neither has a dash of its own, of dashes and dots.
      const dash = curve.role === "val" ? 1 : curve.role === "test" ? 2 : place > 0 ? 3 : 0;
      curve.dash = dashes[(curve.run.index >> 3) + dash & 3];
    } else {
      // The first of a role has the role's, each other one the next that is free.
      let color = fixed[curve.role];
      while (taken.has(color) || (color !== fixed[curve.role] && used.has(color))) ++color;
      taken.add(color);
      curve.color = color % 8;
      curve.dash = dashes[(color >> 3) & 3];
    }
  }
}

// Points in the order of x. They come so unless a folder has several runs in it.
function pointsOver(curve, axis) {
  curve.sorted ||= {};
  if (curve.sorted[axis]) return curve.sorted[axis];
  const x = curve.axes[axis];
  let points = {x: x || new Float64Array(0), y: x ? curve.y : new Float64Array(0), mean: x ? curve.mean : new Float64Array(0)};
  if (x && x.some((value, i) => Number.isNaN(value) || (i > 0 && value < x[i - 1]))) {
    const order = [...x.keys()].filter((i) => !Number.isNaN(x[i])).sort((a, b) => x[a] - x[b] || a - b);
    const inOrder = (values) => Float64Array.from(order, (i) => values[i]);
    points = {x: inOrder(x), y: inOrder(curve.y), mean: inOrder(curve.mean)};
  }
  return (curve.sorted[axis] = points);
}

// TensorBoard's: an exponential moving average, divided by the weight that it has had so far, so that it does not begin
// at zero; a constant stays as it is, and what is not finite is passed over.
function smooth(y, weight) {
  if (weight <= 0 || y.every((value) => value === y[0])) return y;
  const out = new Float64Array(y.length);
  let last = 0, seen = 0;
  for (let i = 0; i < y.length; ++i) {
    if (!Number.isFinite(y[i])) {
      out[i] = y[i];
      continue;
    }
    last = last * weight + (1 - weight) * y[i];
    out[i] = last / (1 - weight ** ++seen);
  }
  return out;
}

function smoothedOver(curve, axis, weight) {
  if (curve.smoothedFor !== axis + weight) {
    curve.smoothedFor = axis + weight;
    const {y, mean} = pointsOver(curve, axis);
    // A validation once an epoch has no noise to be hidden, and an average over it would lag behind by epochs.
    curve.smoothed = y.length < 30 || weight <= 0 ? y : smooth(mean, weight);
  }
  return curve.smoothed;
}

// The place of the first that is not below `value`.
function lowerBound(sorted, value) {
  let low = 0, high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

// The place of the nearest; -1 if there are no points.
function nearest(sorted, value) {
  const at = lowerBound(sorted, value);
  if (at === sorted.length) return at - 1;
  return at > 0 && value - sorted[at - 1] <= sorted[at] - value ? at - 1 : at;
}

// What a screen reader says of a curve.
function curveSummary(curve, axis) {
  const {x, y} = pointsOver(curve, axis);
  let low = -1, high = -1, odd = 0;
  for (let i = 0; i < y.length; ++i) {
    if (!Number.isFinite(y[i])) ++odd;
    else {
      if (low < 0 || y[i] < y[low]) low = i;
      if (high < 0 || y[i] > y[high]) high = i;
    }
  }
  const at = (i) => short(y[i]) + " at " + axisNames[axis] + " " + axisValue(axis, x[i]);
  const name = curveLabel(curve);
  if (y.length === 0) return name + ": no values over the " + axisNames[axis] + ".";
  const extremes = low < 0 ? "" : ", lowest " + at(low) + ", highest " + at(high);
  return name + ": " + plural(curve.count, "value") + ", last " + at(y.length - 1) + extremes +
    (odd ? ", " + plural(odd, "is", "are") + " not finite" : "") + ".";
}

const view = {runs: [], charts: [], groups: [], several: false, written: 0, cursor: null};

// Of several runs the run's name, and the metric's if the chart has more than one.
function curveLabel(curve) {
  if (!view.several) return curve.name;
  return curve.run.shortTitle + (curve.name === curve.title ? "" : " " + curve.name);
}
