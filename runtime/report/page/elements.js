// Elements of the page. Whatever comes from a run is a text node, never markup.

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== ""));
  return node;
}

// A name that a user has given: its direction of writing stays its own.
// One of blanks is shown in quotes.
const named = (text, tag = "bdi") => element(tag, {class: "name", dir: "auto"}, /\S/.test(text) ? String(text) : JSON.stringify(String(text)));

// Rows of cells; the first of each row is its heading. Numbers are told by "n" in `kinds`.
function table(caption, heads, rows, kinds = "") {
  const kind = (i) => (kinds[i] === "n" ? "number" : undefined);
  const node = element("table", {},
    element("caption", {}, caption),
    element("thead", {}, element("tr", {}, heads.map((head, i) => element("th", {scope: "col", class: kind(i)}, head)))),
    element("tbody", {}, rows.map((row) => element("tr", {class: row.className}, row.map((cell, i) =>
      i === 0 ? element("th", {scope: "row"}, cell) : element("td", {class: kind(i)}, cell))))));
  // A wide table scrolls by itself, with the keyboard too.
  return element("div", {class: "scroll", tabindex: 0, role: "region", "aria-label": caption}, node);
}

// Pairs of name and value, side by side; those with "long" as a third have a line of their own.
function facts(pairs) {
  return element("dl", {class: "facts"}, pairs.filter(([, value]) => value !== "" && value !== null && value !== undefined)
    .map(([name, value, kind]) => element("div", {class: kind}, element("dt", {}, name), element("dd", {}, value))));
}

// Opened or closed as the reader left it.
function disclosure(id, summary, body, isOpen = false, onopen = null) {
  const open = settings.open.includes(id) || (isOpen && !settings.closed.includes(id));
  const node = element("details", {id, open}, element("summary", {}, summary), body);
  const remember = (list, has) => {
    settings[list] = settings[list].filter((other) => other !== id).concat(has ? [id] : []);
  };
  if (open && onopen) onopen();
  node.addEventListener("toggle", () => {
    remember("open", node.open);
    remember("closed", !node.open);
    saveSettings();
    if (node.open && onopen) onopen();
  });
  return node;
}

function section(id, title, ...children) {
  const node = element("section", {id, class: "card", "aria-labelledby": id + "-title"},
    element("h2", {id: id + "-title"}, title), ...children);
  // What says the same as the heading is for those who hear the table alone.
  for (const caption of node.querySelectorAll("caption")) caption.classList.toggle("hidden-text", caption.textContent === title);
  return node;
}

function announce(text) {
  document.getElementById("announcer").textContent = text;
}
