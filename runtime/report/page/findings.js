// What finders have measured, each as a curve that stands still: the loss over the learning rate, the speed over a setting.

const findingSize = {width: 640, height: 260, left: 62, right: 14, top: 12, bottom: 42};

// The name of SVG, which is no address that is asked for: no address stands in the page.
const svgNamespace = ["http:", "", "www.w3.org", "2000", "svg"].join("/");

function drawing(tag, attributes = {}, ...children) {
  const node = document.createElementNS(svgNamespace, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children.flat());
  return node;
}

// From the smallest to the largest finite value, with a margin; powers if the scale is logarithmic.
function rangeOf(values, margin) {
  let low = Infinity, high = -Infinity;
  for (const value of values) {
    if (!Number.isFinite(value)) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  if (low > high) return [0, 1];
  const space = high > low ? (high - low) * margin : Math.abs(high) * 0.1 || 1;
  return [low - space, high + space];
}

function findingPlot(finding, columns) {
  const [x, y] = columns;
  const isLog = finding.x_is_logarithmic;
  const places = x.values.map((value) => (isLog ? Math.log10(value) : value));
  const [left, right] = rangeOf(places, 0), [low, high] = rangeOf(y.values, 0.06);
  const size = findingSize;
  const across = (place) => size.left + (size.width - size.left - size.right) * (right > left ? (place - left) / (right - left) : 0.5);
  const up = (value) => size.height - size.bottom - (size.height - size.top - size.bottom) * (value - low) / (high - low);
  const bottom = size.height - size.bottom;
  const grid = ticks(low, high, 5).flatMap((value) => [
    drawing("line", {class: "rule", x1: size.left, x2: size.width - size.right, y1: up(value), y2: up(value)}),
    drawing("text", {x: size.left - 6, y: up(value) + 4, "text-anchor": "end"}, short(Number(value.toPrecision(6))))]);
  const below = (isLog ? logTicks(left, right) : ticks(left, right, 8)).map((place) =>
    drawing("text", {x: across(place), y: bottom + 16, "text-anchor": "middle"}, short(Number((isLog ? 10 ** place : place).toPrecision(3)))));
  let path = "", isOpen = false;
  places.forEach((place, i) => {
    const shows = Number.isFinite(place) && Number.isFinite(y.values[i]);
    if (shows) path += (isOpen ? "L" : "M") + across(place).toFixed(1) + " " + up(y.values[i]).toFixed(1);
    isOpen = shows;
  });
  const dots = places.length > 24 ? [] : places.flatMap((place, i) =>
    Number.isFinite(y.values[i]) ? [drawing("circle", {class: "point", cx: across(place), cy: up(y.values[i]), r: 3})] : []);
  const {chosen} = finding;
  const mark = chosen !== null && Number.isFinite(y.values[chosen])
    ? [drawing("line", {class: "chosen", x1: across(places[chosen]), x2: across(places[chosen]), y1: size.top, y2: bottom}),
      drawing("circle", {class: "chosen", cx: across(places[chosen]), cy: up(y.values[chosen]), r: 5})] : [];
  return drawing("svg", {class: "finding", viewBox: "0 0 " + size.width + " " + size.height, role: "img",
                         "aria-label": y.name + " over " + x.name + ". " + finding.says},
    grid, below, drawing("path", {d: path}), dots, mark,
    drawing("text", {x: (size.left + size.width - size.right) / 2, y: size.height - 6, "text-anchor": "middle"}, x.name),
    drawing("text", {x: size.left, y: size.top - 2}, y.name));
}

function findingPart(finding) {
  const columns = finding.columns.map((column) => ({name: column.name, values: column.values.map(unpackMetric)}));
  const rows = columns[0].values.map((_, i) => {
    const row = columns.map((column) => short(column.values[i]));
    if (i === finding.chosen) row.className = "chosen";
    return row;
  });
  return [element("h3", {}, named(finding.title)), element("p", {}, named(finding.says, "span")), findingPlot(finding, columns),
    disclosure("finding-" + finding.name, "Data", table(finding.title, columns.map((column) => named(column.name)), rows, "n".repeat(columns.length)))];
}

function findingsSection(card) {
  const findings = card.findings || [];
  return findings.length ? section("findings", "Found by trials", findings.map(findingPart)) : null;
}
