// Several runs beside each other.

// What the lines are, of those that there are. With more runs than colours dashes tell these apart too (styleCurves).
function legend() {
  const has = (role) => view.runs.some((run) => run.curves.some((curve) => roleOf(curve.name) === role));
  if (view.runs.length > 8) return "Each run has one colour and dash in all charts.";
  const dashes = [has("val") ? "dashes are validation" : "", has("test") ? "dots are test" : ""].filter(Boolean).join(", ");
  return "Each run has one colour in all charts" + (dashes && "; " + dashes) + ".";
}

function buildCompared() {
  const {runs} = view;
  document.title = plural(runs.length, "run");
  document.getElementById("status").append(element("div", {class: "title"}, element("h1", {}, plural(runs.length, "run"))),
    element("p", {class: "line"}, legend()), jumps());
  const parts = [runsSection(), differencesSection(), finalMetricsSection(), ...runs.filter((run) => run.card.failure).map(failureOf)];
  document.getElementById("compared").append(...parts.filter(Boolean));
}

const runColor = (run) => element("span", {class: "swatch block", style: "--color: var(--series-" + run.index % 8 + ")", "aria-hidden": "true"});

// The choice of runs is by their names, which stay when the page is made anew.
function runChoice(run) {
  return element("label", {class: "toggle"}, element("input", {type: "checkbox", checked: !settings.hiddenRuns.includes(run.title), onchange: (event) => {
    const others = settings.hiddenRuns.filter((title) => title !== run.title);
    change("hiddenRuns", event.target.checked ? others : [...others, run.title]);
  }}), runColor(run), named(run.title));
}

function runsSection() {
  const rows = view.runs.map((run) => [runChoice(run), statusPill(statusOf(run.card)), moment(run.card.started), duration(runTime(run.card)),
    count(run.card.progress.epoch), count(run.card.progress.global_step), parameters(run.card)]);
  return section("runs", "Runs", table("Runs", ["Shown", "Status", "Started", "Took", "Epoch", "Step", "Parameters"], rows, "   nnnn"));
}

// The model summary counts them, and may be off.
const parameters = (card) => (card.parameters > 0 || card.layers.length > 0 ? count(card.parameters) : "not counted");

const runHeads = () => view.runs.map((run) => [runColor(run), named(run.shortTitle)]);

function differencesSection() {
  const options = view.runs.map((run) => new Map(flatOptions(run.card.options)));
  const names = [...new Set(options.flatMap((map) => [...map.keys()]))].sort();
  const rows = names.filter((name) => new Set(options.map((map) => JSON.stringify(map.get(name)))).size > 1)
    .map((name) => [named(name, "code"), ...options.map((map) => named(map.has(name) ? optionText(map.get(name)) : "–"))]);
  const same = names.length - rows.length;
  return section("differences", "Options that differ",
    rows.length ? table("Options that differ", ["Option", ...runHeads()], rows) : element("p", {}, "None: the runs have the same options."),
    same > 0 ? element("p", {class: "note"}, plural(same, "option") + " " + (same === 1 ? "is" : "are") + " the same.") : null);
}

function finalMetricsSection() {
  const names = [...new Set(view.runs.flatMap((run) => Object.keys(run.card.metrics)))].sort();
  if (names.length === 0) return null;
  const rows = names.map((name) => [named(name, "code"), ...view.runs.map((run) =>
    (name in run.card.metrics ? short(unpackMetric(run.card.metrics[name])) : "–"))]);
  return section("latest", "Latest metrics", table("Latest metrics", ["Metric", ...runHeads()], rows, " " + "n".repeat(view.runs.length)));
}

function failureOf(run) {
  const {failure} = run.card;
  const place = ["rank " + failure.rank, failure.device, failure.stage, failure.hook, failure.epoch >= 0 ? "epoch " + failure.epoch : "",
    failure.batch >= 0 ? "batch " + failure.batch : ""].filter(Boolean).join(", ");
  return element("section", {class: "card failure", "aria-label": "Failure of " + run.title}, element("h2", {}, named(run.title), " failed"),
    element("pre", {class: "message", dir: "auto"}, failure.message), element("p", {}, named(place)));
}
