// Numbers, times and options as people read them.

const grouped = new Intl.NumberFormat("en", {maximumFractionDigits: 0});
const count = (number) => grouped.format(number);

function short(value) {
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  const size = Math.abs(value);
  if (size !== 0 && (size >= 1e6 || size < 1e-3)) {
    return value.toExponential(3).replace(/\.?0+e/, "e").replace("e+", "e").replace(/-/g, "−");
  }
  return String(Number(value.toPrecision(5))).replace("-", "−");
}

const rest = (number, unit) => (number > 0 ? " " + number + unit : "");

function duration(seconds) {
  if (!Number.isFinite(seconds)) return "unknown";
  if (seconds > 0 && seconds < 1e-6) return Math.round(seconds * 1e9) + " ns";
  if (seconds < 0.001) return (seconds * 1e6).toFixed(0) + " µs";
  if (seconds < 1) return (seconds * 1000).toPrecision(3) + " ms";
  if (seconds < 60) return seconds.toFixed(seconds < 10 ? 1 : 0) + " s";
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return minutes + " min" + rest(Math.floor(seconds % 60), " s");
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return hours + " h" + rest(minutes % 60, " min");
  return Math.floor(hours / 24) + " d" + rest(hours % 24, " h");
}

const dateParts = {year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit"};
function moment(seconds) {
  const date = new Date(seconds * 1000);
  return Number.isNaN(date.getTime()) ? "unknown" : date.toLocaleString(undefined, dateParts);
}

const share = (part, whole) => (whole > 0 ? (100 * part / whole).toFixed(1) + " %" : "");

function plural(number, one, many = one + "s") {
  return count(number) + " " + (number === 1 ? one : many);
}

// An option's value; texts as they are.
function optionText(value) {
  if (value === undefined || value === null) return "not set";
  if (typeof value === "string") return value === "" ? "\"\"" : value;
  return JSON.stringify(value);
}

// {"trainer": {"devices": 2}} as [["trainer.devices", 2]].
function flatOptions(options, prefix = "") {
  return Object.entries(options || {}).flatMap(([name, value]) =>
    value && typeof value === "object" && !Array.isArray(value) && Object.keys(value).length > 0
      ? flatOptions(value, prefix + name + ".")
      : [[prefix + name, value]]);
}

const axisNames = {step: "step", epoch: "epoch", time: "time"};

function axisValue(axis, value) {
  if (axis === "time") return duration(value);
  return axis === "step" ? count(value) : short(Math.round(value * 1000) / 1000);
}
