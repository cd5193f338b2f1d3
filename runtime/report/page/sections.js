// What is said of a run besides its curves.

const statusWords = {running: "running", finished: "finished", interrupted: "interrupted", failed: "failed", lost: "lost", silent: "no news"};
const statusMarks = {running: "●", finished: "✓", interrupted: "■", failed: "✕", lost: "✕", silent: "?"};
const statusStyles = {lost: "failed", silent: "interrupted"};

// Lost: its process is gone, and nobody saw its end.
const statusOf = (card) => (card.status === "failed" && card.ended === null ? "lost" : card.status);

function statusPill(status) {
  const known = statusWords[status] ? status : "running";
  return element("span", {class: "pill " + (statusStyles[known] || known)}, element("span", {"aria-hidden": "true"}, statusMarks[known] + " "), statusWords[known]);
}

// Batches of the run so far, how many there will be (that many only if the pace stays, with max_time), and the seconds left.
function progressOf(card) {
  const done = card.progress.total_batches, all = card.total_batches;
  if (!all || card.stage !== "fit") return null;
  const isGuess = card.status === "running" && Boolean(((card.options || {}).trainer || {}).max_time);
  return {part: Math.min(1, done / all), done, all, isGuess, left: card.seconds_left ?? NaN};
}

function runTime(card) {
  return Math.max(0, (card.ended ?? card.updated) - card.started);
}

function statusLine(card) {
  const isRunning = card.status === "running";
  const parts = [];
  parts.push((isRunning ? "since " : "started ") + moment(card.started));
  if (card.ended) parts.push("ended " + moment(card.ended));
  if (runTime(card) > 0) parts.push((isRunning ? "for " : "took ") + duration(runTime(card)));  // finders have none
  if (card.stage) parts.push(["stage ", named(card.stage)]);
  parts.push("epoch " + count(card.progress.epoch));
  parts.push("step " + count(card.progress.global_step));
  return parts.map((part, i) => [i > 0 ? " · " : "", part]);
}

function buildStatus(run) {
  const {card} = run;
  const status = statusOf(card);
  const shown = element("span", {role: "status"});
  view.showStatus = (now) => {
    document.title = statusMarks[now] + " " + run.title + " · " + statusWords[now];
    shown.replaceChildren(statusPill(now));
  };
  view.showStatus(status);
  const isRunning = status === "running";
  const progress = progressOf(card);
  document.getElementById("status").append(...[
    element("div", {class: "title"}, element("h1", {}, named(run.title)), shown, isRunning ? refreshSwitch() : null),
    element("p", {class: "line"}, statusLine(card)),
    progress ? progressBar(progress, isRunning) : null,
    ...(isRunning ? writtenLine() : []),
    card.message && !card.failure ? element("p", {class: "notice"}, named(card.message)) : null,
    jumps()].filter(Boolean));
}

// When the page was written, which a run does every minute at least; told anew while the page stays open. After three
// minutes without that nobody knows whether the run goes on, or how long it takes.
const longSilence = 180;
function writtenLine() {
  const age = element("p", {class: "line", id: "written"});
  const notice = element("p", {class: "notice", id: "silence", hidden: true});
  view.tellAge = () => {
    const seconds = Math.max(0, Date.now() / 1000 - view.written);
    age.textContent = "Page written " + moment(view.written) + ", " + (seconds < 10 ? "just now" : duration(seconds) + " ago");
    notice.textContent = "Nothing has been written for " + duration(seconds) +
      ": the run may have been killed. On its machine, troupe runs tells whether it goes on, and puts this page right if not.";
    const isSilent = seconds > longSilence;
    if (isSilent === notice.hidden) view.showStatus(isSilent ? "silent" : "running");
    notice.hidden = !isSilent;
    document.documentElement.classList.toggle("silent", isSilent);
  };
  view.tellAge();
  return [age, notice];
}

function progressBar(progress, isRunning) {
  const percent = (100 * progress.part).toFixed(progress.part < 1 ? 1 : 0) + " %";
  const text = percent + " · " + count(progress.done) + (progress.isGuess ? " of about " : " of ") + count(progress.all) + " batches";
  const left = isRunning && progress.part < 1 ? " · " + (Number.isFinite(progress.left) ? duration(progress.left) + " left" : "time left unknown") : "";
  return element("div", {class: "progress"}, element("progress", {max: 1, value: progress.part, "aria-label": "Progress of the run"}), element("span", {}, text, element("span", {class: "left"}, left)));
}

function jumps() {
  return element("nav", {"aria-label": "Parts of the page"}, element("ul", {class: "jumps"}));
}

function fillJumps() {
  const list = document.querySelector(".jumps");
  if (!list) return;
  for (const part of document.querySelectorAll("main section[id]")) {
    const title = part.querySelector("h2");
    if (title) list.append(element("li", {}, element("a", {href: "#" + part.id}, title.textContent)));
  }
}

// What a process that crashed has put behind the page, which it left as that of a run that goes on.
function takeCrash(card) {
  const note = document.getElementById("crash");
  if (!note || card.status !== "running") return;
  try {
    card.failure = JSON.parse(note.textContent);
  } catch {
    return; // cut short
  }
  card.status = "failed";
}

function buildFailure(card) {
  if (!card.failure) return;
  const {failure} = card;
  const batch = failure.batch >= 0 ? count(failure.batch) : "";
  document.getElementById("failure").append(element("section", {id: "first-failure", class: "card failure", "aria-labelledby": "failure-title"},
    element("h2", {id: "failure-title"}, "The first failure"), element("pre", {class: "message", dir: "auto"}, failure.message),
    facts([["Rank", count(failure.rank)], ["Host", named(failure.host || card.environment.host)], ["Device", failure.device && named(failure.device)],
      ["Stage", failure.stage && named(failure.stage)], ["Hook", failure.hook && named(failure.hook, "code")],
      ["Epoch", failure.epoch >= 0 ? count(failure.epoch) : ""], ["Batch", batch],
      ["Signal", failure.signal && named(failure.signal)]])));
}

const byPhase = new Map();
function phaseColor(name) {
  if (name === "rest") return "var(--rest)";
  if (!byPhase.has(name)) byPhase.set(name, byPhase.size);
  return "var(--series-" + (byPhase.get(name) % 8) + ")";
}

function phaseTable(title, report, phases) {
  return table(title, ["Phase", "Time", "Share", "Count", "Each", "Longest"], phases.map((phase) =>
    [[element("span", {class: "swatch block", style: "--color: " + phaseColor(phase.name), "aria-hidden": "true"}), named(phase.name)],
      duration(phase.seconds), share(phase.seconds, report.seconds), count(phase.count),
      phase.count > 0 ? duration(phase.seconds / phase.count) : "", duration(phase.longest)]), " nnnnn");
}

function phaseBar(report) {
  const parts = report.phases.filter((phase) => phase.seconds > 0);
  const text = parts.slice(0, 8).map((phase) => phase.name + " " + share(phase.seconds, report.seconds)).join(", ");
  return element("div", {class: "stack", role: "img", "aria-label": "Time of " + report.stage + ": " + text},
    parts.map((phase) => {
      const percent = share(phase.seconds, report.seconds);
      const isWide = phase.seconds > report.seconds * 0.12;
      return element("span", {style: "flex-grow: " + phase.seconds / report.seconds + "; --color: " + phaseColor(phase.name), title: phase.name + ": " + percent},
        isWide ? element("span", {}, phase.name) : null);
    }));
}

function phaseReport(report) {
  const rows = [...report.phases].sort((a, b) => b.seconds - a.seconds);
  const ranks = report.ranks.map((rank) => [named(rank.name), duration(rank.median), duration(rank.slowest),
    rank.median > 0 ? "× " + (rank.slowest / rank.median).toFixed(2) : "", count(rank.slowest_rank)]);
  return element("div", {class: "phases"},
    element("h3", {}, named(report.stage), element("small", {}, " " + duration(report.seconds) + ", " + plural(report.batches, "batch", "batches"))),
    report.advice ? element("p", {class: "advice"}, named(report.advice)) : null,
    phaseBar(report), phaseTable("Phases of " + report.stage, report, rows),
    report.meanwhile.length ? phaseTable("At the same time, on other threads", report, report.meanwhile) : null,
    ranks.length ? table("Over the ranks", ["Phase", "Median", "Slowest", "", "Rank"], ranks, " nnnn") : null);
}

function optionsSection(card) {
  const defaults = new Map(flatOptions(card.defaults));
  const same = (name, value) => defaults.has(name) && JSON.stringify(defaults.get(name)) === JSON.stringify(value);
  const all = flatOptions(card.options);
  const row = ([name, value]) => [named(name, "code"), named(optionText(value)), defaults.has(name) ? named(optionText(defaults.get(name))) : ""];
  const changed = all.filter(([name, value]) => !same(name, value)), rest = all.filter(([name, value]) => same(name, value));
  if (all.length === 0) return null;
  return section("options", "Options",
    changed.length ? table("Differ from the default", ["Option", "Value", "Default"], changed.map(row)) : element("p", {}, "All are at their default."),
    rest.length ? disclosure("default-options", plural(rest.length, "option") + " at the default",
      table("At the default", ["Option", "Value"], rest.map((option) => row(option).slice(0, 2)))) : null);
}

function modelSection(card) {
  if (card.layers.length === 0 && card.parameters === 0) return null;
  const rows = card.layers.map((layer) => [named(layer.name, "code"), named(layer.type), named(layer.in), named(layer.out), count(layer.parameters),
    share(layer.parameters, card.parameters)]);
  return section("model", "Model",
    facts([["Parameters", count(card.parameters)], ["Trainable", count(card.trainable_parameters)],
      ["Frozen", card.parameters > card.trainable_parameters ? count(card.parameters - card.trainable_parameters) : ""]]),
    rows.length ? table("Layers", ["Layer", "Type", "In", "Out", "Parameters", "Share"], rows, "    nn") : null);
}

function environmentSection(card) {
  const {environment} = card;
  const commit = environment.git_commit && [named(environment.git_commit, "code"),
    environment.git_is_dirty ? element("span", {class: "tag warn"}, "with changes that are not committed") : element("span", {class: "tag"}, "clean")];
  const command = card.command.map((word) => (/^[\w./:=,+-]+$/.test(word) ? word : "'" + word.replace(/'/g, "'\\''") + "'")).join(" ");
  return section("environment", "Environment", facts([
    ["Command", command && named(command, "code"), "long"], ["Git commit", commit], ["Host", named(environment.host)], ["System", named(environment.system)],
    ["Processor", named(environment.processor)], ["Devices", environment.devices.length ? environment.devices.map((device) => element("div", {}, named(device))) : ""],
    ["Workers", count(environment.world_size)], ["Troupe", named(environment.troupe)], ["LibTorch", named(environment.libtorch)],
    ["CUDA", environment.cuda && named(environment.cuda)], ["Compiler", named(environment.compiler)], ["Process", environment.pid ? String(environment.pid) : ""],
    ["Run", card.id && named(card.id, "code")]]));
}

function checkpointsSection(card) {
  if (card.checkpoints.length === 0 && !card.best_checkpoint) return null;
  const best = card.best_checkpoint;
  const paths = best && !card.checkpoints.includes(best) ? [...card.checkpoints, best] : card.checkpoints;
  return section("checkpoints", "Checkpoints", element("ul", {class: "files"}, paths.map((path) => {
    const at = path.lastIndexOf("/") + 1;
    return element("li", {class: path === best ? "best" : undefined},
      element("span", {dir: "auto", class: "name", title: path}, element("small", {}, path.slice(0, at)), element("strong", {}, path.slice(at))),
      path === best ? element("span", {class: "tag good"}, "★ best") : null);
  })));
}

function warningsSection(run) {
  const {card} = run;
  const own = run.damaged_rows ? [plural(run.damaged_rows, "row") + " of the metrics' file " + (run.damaged_rows === 1 ? "is" : "are") + " damaged and left out."] : [];
  if (card.warnings.length + own.length === 0) return null;
  return section("warnings", "Warnings", element("ul", {class: "warnings"}, [...own, ...card.warnings].map((text) => element("li", {}, named(text, "span")))),
    card.more_warnings > 0 ? element("p", {}, "and " + count(card.more_warnings) + " more") : null);
}

function metricsSection(card) {
  const rows = Object.entries(card.metrics).map(([name, value]) => [named(name, "code"), short(unpackMetric(value))]);
  return rows.length ? section("latest", "Latest metrics", table("Latest metrics", ["Metric", "Value"], rows, " n")) : null;
}

const unpackMetric = (value) => (typeof value === "number" ? value : value === "NaN" ? NaN : value === "Infinity" ? Infinity : value === "-Infinity" ? -Infinity : NaN);

function buildSections(run) {
  const {card} = run;
  const phases = card.phases.filter((report) => report.phases.length);
  const parts = [
    warningsSection(run),
    findingsSection(card),
    phases.length ? section("phases", "Where the time went", phases.map(phaseReport)) : null,
    optionsSection(card), modelSection(card), checkpointsSection(card), metricsSection(card), environmentSection(card),
  ];
  document.getElementById("sections").append(...parts.filter(Boolean));
}
