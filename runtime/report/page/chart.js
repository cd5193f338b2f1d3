// One chart: a figure with its curves' names and values, a canvas for the curves and one above it for the cursor.

const gutter = {left: 54, right: 10, top: 8, bottom: 24};
const plotHeight = 210;
const maxRows = 200;

let theme = null;
function readTheme() {
  const style = getComputedStyle(document.documentElement);
  const value = (name) => style.getPropertyValue(name).trim();
  theme = {text: value("--muted"), strong: value("--text"), line: value("--line"), card: value("--card"),
           accent: value("--accent"), series: Array.from({length: 8}, (_, i) => value("--series-" + i))};
}

// Round places for labels, about `wanted` of them.
function ticks(low, high, wanted) {
  const raw = high / Math.max(1, wanted) - low / Math.max(1, wanted);
  if (!(raw > 0) || !Number.isFinite(raw)) return [low];
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= raw * 0.999);
  const out = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9 && out.length < 50; ++i) out.push(i * step || 0);
  return out;
}

function logTicks(low, high) {
  const decades = [];
  for (let power = Math.floor(low); power <= Math.ceil(high); ++power) decades.push(power);
  const factors = high - low > 3 ? [1] : high - low > 1.5 ? [1, 3] : [1, 2, 5];
  const every = Math.ceil(decades.length / 8);
  const out = decades.filter((_, i) => i % every === 0)
    .flatMap((power) => factors.map((factor) => power + Math.log10(factor)))
    .filter((place) => place >= low && place <= high);
  return out.length > 2 ? out : ticks(low, high, 4);
}

function sized(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  context.font = "11px system-ui, sans-serif";
  return context;
}

class Chart {
  constructor(group) {
    this.group = group;
    this.isVisible = false;
    this.isDirty = true;
    this.base = element("canvas", {"aria-hidden": "true"});
    this.front = element("canvas", {class: "front", tabindex: 0, role: "slider", id: group.id, "aria-label": "Chart of " + group.title,
                                    "aria-describedby": group.id + "-summary", "aria-orientation": "horizontal"});
    this.note = element("p", {class: "note", hidden: true});
    this.summary = element("p", {class: "hidden-text", id: group.id + "-summary"});
    this.values = new Map();
    this.plot = element("div", {class: "plot"}, this.base, this.front);
    this.figure = element("figure", {class: "card chart"},
      element("figcaption", {}, element("h4", {}, named(group.title)), this.legend()), this.plot, this.note, this.summary,
      disclosure(group.id + "-data", "Data", this.rows = element("div"), false, () => this.fillRows()));
    connectInput(this);
  }

  legend() {
    return element("ul", {class: "legend"}, this.group.curves.map((curve) => {
      const value = element("span", {class: "value"});
      const item = element("li", {}, swatch(curve), named(curveLabel(curve)), value);
      this.values.set(curve, {value, item});
      return item;
    }));
  }

  curves() {
    return this.group.curves.filter((curve) => !settings.hiddenRuns.includes(curve.run.title));
  }

  // From the smallest to the largest value within the domain, as powers if the scale is logarithmic.
  rangeOfValues(domain) {
    const shown = [];
    let hidden = 0;
    for (const curve of this.curves()) {
      const {x, y} = pointsOver(curve, settings.axis);
      const to = Math.min(x.length, lowerBound(x, domain[1]) + 1);
      for (let i = Math.max(0, lowerBound(x, domain[0]) - 1); i < to; ++i) {
        if (!Number.isFinite(y[i])) continue;
        if (this.isLog && y[i] <= 0) ++hidden;
        else shown.push(this.isLog ? Math.log10(y[i]) : y[i]);
      }
    }
    this.notShown = hidden;
    if (shown.length === 0) return null;
    let low = Infinity, high = -Infinity;
    if (settings.outliers && shown.length > 20) {
      shown.sort((a, b) => a - b);
      low = shown[Math.floor(shown.length * 0.02)];
      high = shown[Math.ceil(shown.length * 0.98) - 1];
    } else {
      for (const value of shown) {
        if (value < low) low = value;
        if (value > high) high = value;
      }
    }
    const margin = high > low ? high * 0.05 - low * 0.05 : Math.abs(high) * 0.1 || 1;
    return [Math.max(low - margin, -Number.MAX_VALUE), Math.min(high + margin, Number.MAX_VALUE)];
  }

  draw() {
    this.isDirty = false;
    const width = this.plot.clientWidth, height = plotHeight;
    if (width === 0) return;
    const context = sized(this.base, width, height);
    const domain = domainOfX();
    this.isLog = settings.log;
    let range = this.rangeOfValues(domain);
    if (!range && this.isLog) {
      this.isLog = false;
      range = this.rangeOfValues(domain);
    }
    this.tell(range);
    range ||= [0, 1];
    const inner = {width: width - gutter.left - gutter.right, height: height - gutter.top - gutter.bottom};
    this.scale = {
      domain, width, height,
      x: (value) => gutter.left + inner.width * (value - domain[0]) / (domain[1] - domain[0]),
      value: (x) => domain[0] + (domain[1] - domain[0]) * (x - gutter.left) / inner.width,
      y: (value) => this.height(this.isLog ? Math.log10(value) : value, range, inner),
    };
    this.drawAxes(context, range, inner);
    context.save();
    context.beginPath();
    context.rect(gutter.left, gutter.top - 2, inner.width + 2, inner.height + 4);
    context.clip();
    for (const curve of this.curves()) this.drawCurve(context, curve);
    context.restore();
    this.drawFront();
  }

  // Halves, since the difference of two large doubles may be infinite.
  height(value, [low, high], inner) {
    return gutter.top + inner.height * (1 - (value / 2 - low / 2) / (high / 2 - low / 2));
  }

  tell(range) {
    const notes = [];
    if (settings.log && !this.isLog) notes.push("A linear scale: no value is above 0.");
    if (this.isLog && this.notShown) notes.push(plural(this.notShown, "value") + " not above 0 cannot be shown.");
    if (!range) notes.push("No finite values here.");
    const odd = this.curves().some((curve) => pointsOver(curve, settings.axis).y.some((value) => !Number.isFinite(value)));
    if (odd) notes.push("▼ NaN or infinite");
    this.note.textContent = notes.join(" ");
    this.note.hidden = notes.length === 0;
    this.summary.textContent = this.curves().slice(0, 12).map((curve) => curveSummary(curve, settings.axis)).join(" ");
  }

  drawAxes(context, range, inner) {
    const {x} = this.scale;
    context.fillStyle = theme.text;
    context.strokeStyle = theme.line;
    context.lineWidth = 1;
    context.textAlign = "right";
    context.textBaseline = "middle";
    for (const place of this.isLog ? logTicks(...range) : ticks(range[0], range[1], 5)) {
      const at = Math.round(this.height(place, range, inner)) + 0.5;
      context.beginPath();
      context.moveTo(gutter.left, at);
      context.lineTo(gutter.left + inner.width, at);
      context.stroke();
      const value = this.isLog ? 10 ** place : Math.abs(place) < (range[1] / 2 - range[0] / 2) * 1e-9 ? 0 : place;
      context.fillText(short(Number(value.toPrecision(6))), gutter.left - 6, at);
    }
    context.textAlign = "center";
    context.textBaseline = "top";
    const {domain} = this.scale;
    const places = settings.axis === "time" ? timeTicks(...domain, inner.width / 90) : ticks(...domain, inner.width / 60);
    let free = -Infinity;
    for (const place of places) {
      const text = axisValue(settings.axis, place);
      const half = context.measureText(text).width / 2;
      const at = Math.min(Math.max(x(place), gutter.left - 20 + half), gutter.left + inner.width + gutter.right - half);
      if (at - half < free) continue;
      free = at + half + 8;
      context.fillText(text, at, gutter.top + inner.height + 7);
    }
  }

  drawCurve(context, curve) {
    const points = pointsOver(curve, settings.axis);
    const smoothed = smoothedOver(curve, settings.axis, settings.smoothing);
    context.strokeStyle = context.fillStyle = theme.series[curve.color];
    context.lineJoin = "round";
    context.setLineDash(curve.dash);
    if (smoothed !== points.y) {
      context.globalAlpha = 0.28;
      context.lineWidth = 1;
      this.trace(context, points.x, points.y);
      context.globalAlpha = 1;
    }
    // Thin if the line goes up and down within each pixel, so that it is no block.
    context.lineWidth = this.isRough(points.x, smoothed) ? 1 : 1.75;
    this.trace(context, points.x, smoothed);
    context.setLineDash([]);
  }

  // Whether the line is several times as long as the chart is wide.
  isRough(x, y) {
    const {scale} = this;
    let length = 0;
    for (let i = lowerBound(x, scale.domain[0]) + 1; i < x.length && x[i] <= scale.domain[1]; ++i) {
      const rise = Math.abs(scale.y(y[i]) - scale.y(y[i - 1]));
      if (Number.isFinite(rise)) length += rise;
    }
    return length > 12 * scale.width;
  }

  // A line, a dot where a value stands alone, a mark at the top for what is not finite.
  trace(context, x, y) {
    const {scale} = this;
    const from = Math.max(0, lowerBound(x, scale.domain[0]) - 1);
    const to = Math.min(x.length, lowerBound(x, scale.domain[1]) + 2);
    const shows = (i) => i >= from && i < to && Number.isFinite(y[i]) && (!this.isLog || y[i] > 0);
    const few = to - from <= 24;
    context.beginPath();
    for (let i = from; i < to; ++i) {
      if (!shows(i)) continue;
      const px = scale.x(x[i]), py = scale.y(y[i]);
      if (shows(i - 1)) context.lineTo(px, py);
      else context.moveTo(px, py);
    }
    context.stroke();
    for (let i = from; i < to; ++i) {
      if (!Number.isFinite(y[i])) this.mark(context, scale.x(x[i]));
      else if (shows(i) && (few || (!shows(i - 1) && !shows(i + 1)))) dot(context, scale.x(x[i]), scale.y(y[i]), 2.5);
    }
  }

  mark(context, x) {
    context.beginPath();
    context.moveTo(x - 4, gutter.top);
    context.lineTo(x + 4, gutter.top);
    context.lineTo(x, gutter.top + 6);
    context.fill();
  }

  // The cursor, with a dot on each curve, and what is being selected.
  drawFront() {
    if (!this.scale) return;
    const {scale} = this;
    const context = sized(this.front, scale.width, scale.height);
    this.showValues();
    if (this.selection) {
      const [from, to] = this.selection;
      context.fillStyle = theme.accent;
      context.globalAlpha = 0.18;
      context.fillRect(Math.min(from, to), gutter.top, Math.abs(to - from), scale.height - gutter.top - gutter.bottom);
      context.globalAlpha = 1;
    }
    if (view.cursor === null || view.cursor < scale.domain[0] || view.cursor > scale.domain[1]) return;
    const at = Math.round(scale.x(view.cursor)) + 0.5;
    context.strokeStyle = theme.text;
    context.beginPath();
    context.moveTo(at, gutter.top);
    context.lineTo(at, scale.height - gutter.bottom);
    context.stroke();
    for (const curve of this.curves()) {
      const {x} = pointsOver(curve, settings.axis);
      const i = nearest(x, view.cursor);
      const y = smoothedOver(curve, settings.axis, settings.smoothing)[i];
      if (i < 0 || !Number.isFinite(y) || (this.isLog && y <= 0)) continue;
      context.fillStyle = theme.card;
      dot(context, scale.x(x[i]), scale.y(y), 5);
      context.fillStyle = theme.series[curve.color];
      dot(context, scale.x(x[i]), scale.y(y), 3.5);
    }
    this.label(context, at);
  }

  label(context, at) {
    const text = axisNames[settings.axis] + " " + axisValue(settings.axis, view.cursor);
    const half = context.measureText(text).width / 2 + 5;
    const middle = Math.min(Math.max(at, half), this.scale.width - half);
    const top = this.scale.height - gutter.bottom + 3;
    context.fillStyle = theme.strong;
    context.fillRect(middle - half, top, 2 * half, 19);
    context.fillStyle = theme.card;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.fillText(text, middle, top + 10);
  }

  // In the legend and for the screen reader: the values at the cursor, else the latest.
  showValues() {
    const said = [];
    for (const curve of this.group.curves) {
      const {x, y} = pointsOver(curve, settings.axis);
      const i = view.cursor === null ? y.length - 1 : nearest(x, view.cursor);
      const {value, item} = this.values.get(curve);
      item.hidden = settings.hiddenRuns.includes(curve.run.title);
      const smoothed = settings.smoothing > 0 && view.cursor !== null && i >= 0 ? smoothedOver(curve, settings.axis, settings.smoothing)[i] : null;
      value.textContent = i < 0 ? "–" : short(y[i]) + (smoothed !== null && smoothed !== y[i] ? " (" + short(smoothed) + ")" : "");
      if (i >= 0 && !item.hidden) said.push(curveLabel(curve) + " " + short(y[i]));
    }
    const {domain} = this.scale;
    const now = view.cursor === null ? domain[1] : Math.min(Math.max(view.cursor, domain[0]), domain[1]);
    this.front.setAttribute("aria-valuemin", domain[0]);
    this.front.setAttribute("aria-valuemax", domain[1]);
    this.front.setAttribute("aria-valuenow", now);
    this.front.setAttribute("aria-valuetext", axisNames[settings.axis] + " " + axisValue(settings.axis, now) + ": " + said.slice(0, 12).join(", "));
  }

  // The numbers as a table, made when it is opened: those within the zoom, thinned out if they are many.
  fillRows() {
    const curves = this.curves();
    const domain = domainOfX();
    const places = new Set();
    for (const curve of curves) for (const x of pointsOver(curve, settings.axis).x) if (x >= domain[0] && x <= domain[1]) places.add(x);
    const all = [...places].sort((a, b) => a - b);
    const every = Math.ceil(all.length / maxRows);
    const rows = all.filter((_, i) => i % every === 0 || i === all.length - 1).map((place) =>
      [axisValue(settings.axis, place), ...curves.map((curve) => {
        const {x, y} = pointsOver(curve, settings.axis);
        const i = lowerBound(x, place);
        return x[i] === place ? short(y[i]) : "";
      })]);
    const caption = this.group.title + (every > 1 ? ", every " + every + "th of " + plural(all.length, "row") : "");
    this.rows.replaceChildren(table(caption, [axisNames[settings.axis], ...curves.map((curve) => named(curveLabel(curve)))], rows,
      "n".repeat(curves.length + 1)));
  }
}

function dot(context, x, y, radius) {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fill();
}

// Seconds in steps that clocks have.
function timeTicks(low, high, wanted) {
  const steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400];
  const step = steps.find((seconds) => (high - low) / seconds <= wanted);
  if (!step || high - low < 2) return ticks(low, high, wanted);
  const out = [];
  for (let at = Math.ceil(low / step) * step; at <= high; at += step) out.push(at);
  return out;
}

// A piece of the curve's line with its dashes, as the legend shows it.
function swatch(curve) {
  let at = 0;
  const pieces = curve.dash.map((length, i) => (i % 2 ? "transparent " : "var(--color) ") + at + "px " + (at += length) + "px");
  return element("span", {class: "swatch" + (pieces.length ? " dashed" : ""), "aria-hidden": "true",
    style: "--color: var(--series-" + curve.color + ")" + (pieces.length ? "; --dash: repeating-linear-gradient(90deg, " + pieces.join(", ") + ")" : "")});
}
