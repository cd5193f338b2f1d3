// Mouse, finger and keyboard on a chart. The cursor and the zoom are one for all charts, since steps are.

function setCursor(value) {
  if (view.cursor === value) return;
  view.cursor = value;
  requestFrame();
}

function setZoom(domain) {
  const whole = wholeDomain();
  if (domain) {
    const least = (whole[1] - whole[0]) / 1e5;
    domain = [Math.max(whole[0], domain[0]), Math.min(whole[1], domain[1])];
    if (domain[1] - domain[0] < least) return;
    if (domain[0] <= whole[0] && domain[1] >= whole[1]) domain = null;
  }
  settings.zoom = domain;
  saveSettings();
  redraw();
  const zoomed = domain && axisNames[settings.axis] + " " + axisValue(settings.axis, domain[0]) + " to " + axisValue(settings.axis, domain[1]);
  announce(zoomed ? "Shown: " + zoomed : "All " + axisNames[settings.axis] + "s are shown");
  showZoom(zoomed);
}

// Around the cursor, or the middle.
function zoomBy(factor) {
  const [low, high] = domainOfX();
  const middle = view.cursor !== null && view.cursor >= low && view.cursor <= high ? view.cursor : (low + high) / 2;
  setZoom([middle - (middle - low) * factor, middle + (high - middle) * factor]);
}

function connectInput(chart) {
  const {front} = chart;
  let start = null;
  const place = (event) => {
    const box = front.getBoundingClientRect();
    return Math.min(Math.max(event.clientX - box.left, gutter.left), box.width - gutter.right);
  };
  const follow = (event) => {
    if (chart.scale) setCursor(nearestPlace(chart, chart.scale.value(place(event))));
  };
  front.addEventListener("pointermove", (event) => {
    if (start !== null) chart.selection = [start, place(event)];
    follow(event);
    if (start !== null) chart.drawFront();
  });
  front.addEventListener("pointerleave", () => {
    if (start === null && document.activeElement !== front) setCursor(null);
  });
  front.addEventListener("pointerdown", (event) => {
    follow(event);
    // A finger moves the cursor, and scrolls the page when it moves up or down.
    if (event.pointerType === "touch" || event.button !== 0) return;
    start = place(event);
    view.isHeld = true;
    if (event.isTrusted) front.setPointerCapture(event.pointerId);
  });
  const end = (event) => {
    if (start === null) return;
    const from = start, to = place(event);
    start = null;
    view.isHeld = false;
    chart.selection = null;
    if (event.type === "pointerup" && Math.abs(to - from) > 5) {
      setZoom([from, to].sort((a, b) => a - b).map(chart.scale.value));
    }
    chart.drawFront();
  };
  front.addEventListener("pointerup", end);
  front.addEventListener("pointercancel", end);
  front.addEventListener("dblclick", () => setZoom(null));
  front.addEventListener("blur", () => setCursor(null));
  front.addEventListener("keydown", (event) => onKey(chart, event));
}

// The curve with the most points, whose points the cursor steps over.
function leader(chart) {
  const curves = chart.curves();
  return curves.length === 0 ? null : pointsOver(curves.reduce((most, curve) =>
    pointsOver(curve, settings.axis).x.length > pointsOver(most, settings.axis).x.length ? curve : most), settings.axis).x;
}

function nearestPlace(chart, value) {
  let best = null;
  for (const curve of chart.curves()) {
    const {x} = pointsOver(curve, settings.axis);
    const i = nearest(x, value);
    if (i >= 0 && (best === null || Math.abs(x[i] - value) < Math.abs(best - value))) best = x[i];
  }
  return best;
}

function onKey(chart, event) {
  if (event.altKey || event.ctrlKey || event.metaKey || !chart.scale) return;
  const [low, high] = chart.scale.domain;
  const x = leader(chart);
  const now = view.cursor === null ? high : view.cursor;
  if (!x || x.length === 0) return;
  // The first and the last point that are shown.
  const first = Math.min(lowerBound(x, low), x.length - 1);
  const last = Math.max(first, x[lowerBound(x, high)] === high ? lowerBound(x, high) : lowerBound(x, high) - 1);
  const move = (to) => setCursor(x[Math.min(Math.max(to, first), last)]);
  const at = nearest(x, now);
  const far = (high - low) / 10;
  const keys = {
    ArrowLeft: () => move(event.shiftKey ? nearest(x, now - far) : view.cursor === null ? at : at - 1),
    ArrowRight: () => move(event.shiftKey ? nearest(x, now + far) : at + 1),
    PageDown: () => move(nearest(x, now - far)),
    PageUp: () => move(nearest(x, now + far)),
    Home: () => move(first),
    End: () => move(last),
    "+": () => zoomBy(0.5),
    "=": () => zoomBy(0.5),
    "-": () => zoomBy(2),
    Escape: () => setZoom(null),
  };
  if (!keys[event.key]) return;
  event.preventDefault();
  keys[event.key]();
}
