"use strict";

// Text comes from files and people: it is set as text, never as HTML.
const $ = (id) => document.getElementById(id);

function make(tag, values = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(values)) {
    if (name === "on") {
      for (const [event, act] of Object.entries(value)) element.addEventListener(event, act);
    } else if (name in element && !name.startsWith("aria")) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

const PAGE = 120;
const NOWHERE = -1;
const DUPLICATES = -2;
const number = new Intl.NumberFormat("en");
const some = (count) => (count === 1 ? "1 picture" : `${number.format(count)} pictures`);

let state = null;
// What the right side shows: a group, or what was found.
let view = { kind: "group", group: null, title: "", query: "" };
let shown = { images: [], total: 0 };
let asking = 0;
let dragged = null;
const selected = new Set();
const marked = new Set();
const groupNodes = new Map();
const pictureNodes = new Map();
let anchor = null;

// The server

async function fetchJson(path, body) {
  const options = body === undefined ? {} : {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  };
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("The program does not answer. Is mca-jax review still running?");
  }
  const content = await answer.json();
  if (answer.status === 409) {
    take(content.state);
    await reload();
  }
  if (!answer.ok) throw new Error(content.error || `Error ${answer.status}`);
  return content;
}

function say(text) {
  $("said").textContent = text;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => { $("said").textContent = ""; }, 6000);
}

function trouble(error) {
  $("trouble").textContent = error ? error.message : "";
  $("trouble").hidden = !error;
}

async function attempt(act) {
  try {
    const value = await act();
    trouble(null);
    return value;
  } catch (error) {
    trouble(error);
    return undefined;
  }
}

function take(next) {
  state = next;
  for (const id of [...marked]) if (!groupOf(id)) marked.delete(id);
  drawGroups();
  drawTop();
}

const groupOf = (id) => state.groups.find((each) => each.id === id);

function nameOf(id) {
  const group = groupOf(id);
  return group ? group.name : "none of these";
}

async function edit(action, values = {}) {
  return attempt(async () => {
    // What is open comes with the answer.
    const open = view.kind === "group" && view.group !== DUPLICATES;
    const show = open ? { group: view.group, order: $("order").value, limit: wanted() } : undefined;
    const mine = ++asking;
    const next = await fetchJson("tell/edit", { version: state.version, action, show, ...values });
    const known = new Set(state.groups.map((each) => each.id));
    take(next);
    say(next.text);
    // What was open may be gone: the first new group, or the one that it went into.
    if (view.kind === "group" && view.group >= 0 && !groupOf(view.group)) {
      const fresh = next.groups.find((each) => !known.has(each.id));
      const into = action === "merge" ? Math.min(...values.groups) : null;
      setView((groupOf(into) || fresh || next.groups[0]).id);
    } else if (open && next.shown && mine === asking) {
      shown = { images: next.shown.images, total: next.shown.total };
      drawPictures();
      return next;
    }
    await reload();
    return next;
  });
}

// The groups

function face(row) {
  return make("img", { src: `picture/${row}`, alt: "", loading: "lazy", decoding: "async", draggable: false });
}

function groupNode(id) {
  let node = groupNodes.get(id);
  if (node) return node;
  node = make("li", { className: "group", role: "option", tabIndex: -1, draggable: id >= 0, id: `group${id}` },
    make("div", { className: "faces" }),
    make("div", { className: "text label" }),
    make("div", { className: "side" }, make("span", { className: "size" }), make("span", { className: "guess" })));
  node.dataset.group = id;
  node.setAttribute("aria-selected", "false");
  groupNodes.set(id, node);
  return node;
}

function drawGroups() {
  const list = $("groups");
  const had = document.activeElement && document.activeElement.dataset.group;
  const all = [...state.groups];
  all.push({ id: NOWHERE, name: "None of these", guess: false, size: state.nowhere, rows: [] });
  if (state.duplicates) {
    all.push({ id: DUPLICATES, name: "Duplicates", guess: false, size: state.duplicates, rows: [] });
  }
  const wanted = all.map((group) => {
    const node = groupNode(group.id);
    const rows = group.rows.join();
    if (state.pictures && node.dataset.rows !== rows) {
      node.dataset.rows = rows;
      node.querySelector(".faces").replaceChildren(...group.rows.map(face));
    }
    node.querySelector(".label").textContent = group.name;
    node.querySelector(".guess").textContent = group.guess ? "guess" : "";
    node.querySelector(".size").textContent = number.format(group.size);
    node.setAttribute("aria-label", `${group.name}${group.guess ? ", a guess" : ""}, ${some(group.size)}`);
    node.setAttribute("aria-selected", String(marked.has(group.id)));
    return node;
  });
  const keep = new Set(wanted);
  for (const [id, node] of groupNodes) if (!keep.has(node)) groupNodes.delete(id);
  if (wanted.length !== list.children.length || wanted.some((node, place) => list.children[place] !== node)) {
    list.replaceChildren(...wanted);
  }
  drawCurrent();
  if (had !== undefined && had !== null && groupNodes.has(Number(had))) groupNodes.get(Number(had)).focus();
  $("merge-marked").hidden = marked.size < 2;
  $("merge-marked").textContent = `Merge ${marked.size}`;
}

function drawCurrent() {
  const current = view.kind === "group" ? view.group : null;
  for (const [id, node] of groupNodes) {
    node.setAttribute("aria-current", String(id === current));
    node.tabIndex = -1;
  }
  const focusable = groupNodes.get(current) || $("groups").firstElementChild;
  if (focusable) focusable.tabIndex = 0;
}

function drawTop() {
  document.title = `${state.title} - review`;
  $("title").textContent = state.title;
  const extra = state.placed ? `, ${number.format(state.placed)} placed by hand` : "";
  $("counts").textContent = `${some(state.images)} in ${number.format(state.groups.length)} groups${extra}`;
  for (const name of ["undo", "redo"]) {
    $(name).disabled = !state[name];
    $(name).title = state[name] || "";
    $(name).setAttribute("aria-label", `${name === "undo" ? "Undo" : "Redo"}${state[name] ? `: ${state[name]}` : ""}`);
  }
  $("open-tree").hidden = !state.tree;
  $("open-learn").hidden = !state.said;
}

function setView(group, more = {}) {
  view = { kind: "group", group, title: "", query: "", ...more };
  selected.clear();
  anchor = null;
  shown = { images: [], total: 0 };
  pictureNodes.clear();
  $("pictures").replaceChildren();
  $("main").scrollTop = 0;
  drawCurrent();
}

async function openGroup(id) {
  setView(id);
  await reload();
}

async function openFound(title, query) {
  setView(null, { kind: "found", title, query });
  await reload();
}

// The pictures

function pathOf(offset, limit) {
  if (view.kind === "found") return view.query;
  if (view.group === DUPLICATES) return "ask/duplicates";
  return `ask/rows?group=${view.group}&order=${$("order").value}&offset=${offset}&limit=${limit}`;
}

const wanted = () => Math.min(500, Math.max(PAGE, shown.images.length));

async function reload() {
  const mine = ++asking;
  await attempt(async () => {
    const next = await fetchJson(pathOf(0, wanted()));
    if (mine !== asking) return;
    shown = { images: next.images, total: next.total };
    drawPictures();
  });
}

async function loadMore() {
  if (view.kind !== "group" || view.group === DUPLICATES) return;
  if (!shown.images.length || shown.images.length >= shown.total || loadMore.busy) return;
  loadMore.busy = true;
  const mine = asking;
  await attempt(async () => {
    const next = await fetchJson(pathOf(shown.images.length, PAGE));
    if (mine !== asking) return;
    shown.images.push(...next.images);
    drawPictures();
  });
  loadMore.busy = false;
}

function pictureNode(image) {
  let node = pictureNodes.get(image.row);
  if (!node) {
    node = make("li", { className: "picture", role: "option", tabIndex: -1, draggable: true, id: `picture${image.row}` });
    node.dataset.row = image.row;
    const path = make("span", { className: "path" }, image.path);
    if (state.pictures) {
      const shownPicture = face(image.row);
      shownPicture.addEventListener("error", () => shownPicture.remove());
      node.append(shownPicture);
    }
    node.append(path);
    pictureNodes.set(image.row, node);
  }
  const tags = [];
  if (view.kind === "found" || view.group === DUPLICATES) tags.push(nameOf(image.group));
  if (image.placed) tags.push("by hand");
  if (image.duplicate && view.group !== DUPLICATES) tags.push("duplicate");
  const tag = tags.join(", ");
  let label = node.querySelector(".tag");
  if (tag && !label) node.append(label = make("span", { className: "tag" }));
  if (label) label.textContent = tag;
  if (label && !tag) label.remove();
  node.setAttribute("aria-label", [image.path, ...tags, `confidence ${Math.round(image.confidence * 100)} %`].join(", "));
  node.setAttribute("aria-selected", String(selected.has(image.row)));
  return node;
}

function drawPictures() {
  const list = $("pictures");
  const rows = new Set(shown.images.map((image) => image.row));
  const focused = document.activeElement && document.activeElement.dataset.row;
  const place = focused === undefined ? -1 : [...list.children].indexOf(document.activeElement);
  for (const row of [...selected]) if (!rows.has(row)) selected.delete(row);
  const nodes = shown.images.map(pictureNode);
  for (const [row] of pictureNodes) if (!rows.has(row)) pictureNodes.delete(row);
  // Those that stay are not touched: their pictures are there already.
  for (const child of [...list.children]) if (!rows.has(Number(child.dataset.row))) child.remove();
  nodes.forEach((node, index) => {
    if (list.children[index] !== node) list.insertBefore(node, list.children[index] || null);
  });
  for (const node of nodes) node.tabIndex = -1;
  const next = pictureNodes.get(Number(focused)) || nodes[Math.min(Math.max(place, 0), nodes.length - 1)];
  if (next) {
    next.tabIndex = 0;
    if (place >= 0) next.focus({ preventScroll: true });
  }
  $("nothing").hidden = nodes.length > 0;
  drawHead();
  drawSelection();
  document.body.dataset.ready = String(state.version);
  requestAnimationFrame(loadNear);
}

function drawHead() {
  const own = view.kind === "group" && view.group >= 0;
  $("group-tools").hidden = !(view.kind === "group" && view.group !== DUPLICATES);
  for (const id of ["rename", "split", "merge"]) $(id).hidden = !own;
  const group = own ? groupOf(view.group) : null;
  let title = view.title;
  if (own) title = group.name;
  else if (view.group === NOWHERE) title = "None of these";
  else if (view.group === DUPLICATES) title = "Duplicates";
  $("name").textContent = title;
  $("about").textContent = `${some(shown.total)}${group && group.guess ? ", the name is a guess" : ""}`;
}

function drawSelection() {
  for (const [row, node] of pictureNodes) node.setAttribute("aria-selected", String(selected.has(row)));
  $("selection").hidden = !selected.size;
  $("selected").textContent = `${number.format(selected.size)} selected`;
  $("selection").querySelector("[data-do=like]").hidden = selected.size !== 1;
  $("selection").querySelector("[data-do=refuse]").hidden = view.group === NOWHERE;
}

function toggle(row, extend) {
  const rows = shown.images.map((image) => image.row);
  if (extend && anchor !== null && rows.includes(anchor)) {
    const [from, to] = [rows.indexOf(anchor), rows.indexOf(row)].sort((a, b) => a - b);
    for (const each of rows.slice(from, to + 1)) selected.add(each);
  } else {
    if (selected.has(row)) selected.delete(row);
    else selected.add(row);
    anchor = row;
  }
  drawSelection();
}

function chosenRows() {
  if (selected.size) return [...selected];
  const row = document.activeElement && document.activeElement.dataset.row;
  return row === undefined ? [] : [Number(row)];
}

async function onRows(action) {
  const rows = chosenRows();
  if (action === "clear" || !rows.length) {
    selected.clear();
    drawSelection();
    return;
  }
  if (action === "move") pickGroup(`Move ${some(rows.length)} to`, (into) => edit("move", { rows, into }), view.group);
  else if (action === "new") await edit("move", { rows });
  else if (action === "refuse") await edit("refuse", { rows });
  else if (action === "outlier") await edit("mark", { rows, mark: "outlier" });
  else if (action === "duplicate") {
    const all = shown.images.filter((image) => rows.includes(image.row)).every((image) => image.duplicate);
    await edit("mark", { rows, mark: all ? "none" : "duplicate" });
  } else if (action === "like") await openFound("Pictures like this one", `ask/like?row=${rows[0]}`);
}

// Dialogs

function showDialog(title, ...content) {
  $("dialog-title").textContent = title;
  $("dialog-body").replaceChildren(...content.filter(Boolean));
  if (!$("dialog").open) {
    $("dialog").showModal();
    // What is behind a dialog is neither seen nor read out.
    $("dialog").prepend($("trouble"), $("said"));
  }
  const first = $("dialog-body").querySelector("input, button, select");
  if (first) first.focus();
}

const closeDialog = () => $("dialog").close();

$("dialog").addEventListener("close", () => {
  document.querySelector(".top").after($("trouble"));
  document.body.append($("said"));
});

function askRename(id) {
  const group = groupOf(id);
  if (!group) return;
  const input = make("input", { type: "text", value: group.name, maxLength: 100, id: "new-name", autocomplete: "off" });
  const chips = make("div", { className: "chips", role: "group", "aria-label": "Suggestions" });
  const form = make("form", { className: "row", on: { submit: async (event) => {
    event.preventDefault();
    if (await edit("rename", { group: id, name: input.value })) closeDialog();
  } } }, make("label", { className: "visually-hidden", htmlFor: "new-name" }, "New name"), input,
    make("button", { className: "main" }, "Rename"));
  showDialog(`Rename ${group.name}`, form, chips);
  input.select();
  attempt(async () => {
    const { names } = await fetchJson(`ask/suggest?group=${id}`);
    chips.replaceChildren(...names.map((name) => make("button", { type: "button", on: { click: () => {
      input.value = name;
      input.focus();
    } } }, name)));
  });
}

function askSplit(id) {
  const group = groupOf(id);
  if (!group) return;
  const input = make("input", { type: "number", min: 2, max: 20, value: 2, id: "parts" });
  const form = make("form", { className: "row", on: { submit: async (event) => {
    event.preventDefault();
    if (await edit("split", { group: id, parts: Number(input.value) })) closeDialog();
  } } }, make("label", { htmlFor: "parts" }, "Parts"), input, make("button", { className: "main" }, "Split"));
  showDialog(`Split ${group.name}`, form);
  input.select();
}

function pickGroup(title, act, without) {
  const filter = make("input", { type: "text", placeholder: "Name of a group", autocomplete: "off", "aria-label": "Name of a group" });
  const list = make("div", { className: "choices" });
  const choose = async (id) => {
    closeDialog();
    await act(id);
  };
  const draw = () => {
    const text = filter.value.toLowerCase();
    const found = state.groups.filter((each) => each.id !== without && each.name.toLowerCase().includes(text));
    list.replaceChildren(...found.map((each) => make("button", { type: "button", on: { click: () => choose(each.id) } },
      make("span", {}, each.name), make("span", { className: "size" }, number.format(each.size)))));
  };
  filter.addEventListener("input", draw);
  const form = make("form", { className: "row", on: { submit: (event) => {
    event.preventDefault();
    if (list.firstElementChild) list.firstElementChild.click();
  }, keydown: (event) => {
    if (event.key === "ArrowDown" && list.firstElementChild) {
      event.preventDefault();
      list.firstElementChild.focus();
    }
  } } }, filter);
  list.addEventListener("keydown", (event) => {
    const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    if (!step) return;
    event.preventDefault();
    (document.activeElement[step] || filter).focus();
  });
  draw();
  showDialog(title, form, list);
}

function askMerge(id) {
  if (marked.size > 1) {
    const groups = [...marked];
    marked.clear();
    edit("merge", { groups });
  } else if (groupOf(id)) {
    pickGroup(`Merge ${nameOf(id)} with`, (other) => edit("merge", { groups: [id, other] }), id);
  }
}

async function showTree() {
  const tree = await attempt(() => fetchJson("ask/tree"));
  if (!tree) return;
  const below = tree.nodes.map(() => []);
  tree.nodes.forEach((node, index) => { if (index) below[node.parent].push(index); });
  for (const each of below) each.sort((a, b) => tree.nodes[b].size - tree.nodes[a].size);
  const slider = make("input", { type: "range", min: 2, max: tree.groups, value: tree.base, id: "cut" });
  const count = make("output", { htmlFor: "cut" });
  const list = make("ul", { className: "nodes", "aria-label": "Groups in groups" });
  const items = [];
  const build = (index) => {
    const node = tree.nodes[index];
    const label = make("span", { className: "label" },
      state.pictures && node.row >= 0 ? face(node.row) : null, node.name,
      make("span", { className: "size" }, ` ${number.format(node.size)}${node.guess ? ", a guess" : ""}`));
    const item = make("li", {});
    if (below[index].length) {
      const inner = make("ul", {});
      const details = make("details", {}, make("summary", {}, label), inner);
      // Built when it is opened: a tree of hundreds shows a handful.
      details.addEventListener("toggle", () => {
        if (details.open && !inner.children.length) inner.append(...below[index].map(build));
      });
      item.append(details);
    } else item.append(label);
    items[index] = item;
    mark(index);
    return item;
  };
  const mark = (index) => {
    const top = 2 * (Number(slider.value) - 1);
    const leaf = !below[index].length || below[index][0] > top;
    const inside = index <= top;
    items[index].className = inside && leaf ? "at" : "";
    const details = items[index].querySelector(":scope > details");
    if (details) details.open = inside && !leaf;
  };
  const draw = () => {
    count.textContent = `${slider.value} groups`;
    // Opening builds what is below, which marks itself.
    for (let index = 0; index < tree.nodes.length; index += 1) if (items[index]) mark(index);
  };
  slider.addEventListener("input", draw);
  list.append(build(0));
  draw();
  const use = make("button", { type: "button", className: "main", on: { click: async () => {
    if (await edit("cut", { num_groups: Number(slider.value) })) closeDialog();
  } } }, "Use these groups");
  showDialog("Tree of groups", make("p", { className: "muted" },
    "The groups as trained, at any number of them. Using a cut replaces the groups that are there; undo brings them back."),
    make("div", { className: "row" }, make("label", { htmlFor: "cut" }, "Groups"), slider, count, use), list);
}

function showVersions() {
  const input = make("input", { type: "text", maxLength: 100, placeholder: "Name, such as: after the boats", "aria-label": "Name of the version" });
  const form = make("form", { className: "row", on: { submit: async (event) => {
    event.preventDefault();
    if (await edit("version", { name: input.value })) showVersions();
  } } }, input, make("button", { className: "main" }, "Keep this version"));
  const names = ["the run", ...state.versions];
  const found = make("div", {});
  const list = make("div", { className: "choices" }, ...names.map((name) => make("button", { type: "button", on: { click: async () => {
    const compared = await attempt(() => fetchJson(`ask/compare?first=${encodeURIComponent(name)}&second=`));
    if (compared) found.replaceChildren(...comparison(name, compared));
  } } }, make("span", {}, name), make("span", { className: "size" }, "compare with now"))));
  showDialog("Versions", form, list, found);
}

function comparison(name, compared) {
  const [before, now] = compared.groups;
  return [
    make("p", {}, `${some(compared.total)} in another group than in ${name}; ${before} groups then, ${now} now.`),
    ...changed(compared),
  ];
}

// From where to where, and which.
function changed(compared) {
  const parts = [];
  if (compared.flows.length) {
    parts.push(make("table", {}, make("thead", {}, make("tr", {}, make("th", {}, "From"), make("th", {}, "To"), make("th", { className: "number" }, "Pictures"))),
      make("tbody", {}, ...compared.flows.map((flow) => make("tr", {}, make("td", {}, flow.from), make("td", {}, flow.to),
        make("td", { className: "number" }, number.format(flow.count)))))));
  }
  if (state.pictures) {
    parts.push(make("div", { className: "strip" }, ...compared.images.slice(0, 60).map((image) => {
      const picture = face(image.row);
      picture.alt = picture.title = image.path;
      return picture;
    })));
  }
  return parts;
}

// Teaching

async function showLearn() {
  const waiting = make("p", { role: "status" }, "Learning from what you said. This takes seconds, and changes nothing yet.");
  showDialog("Learn from this", waiting);
  const version = state.version;
  const lesson = await attempt(() => fetchJson("tell/learn", { version }));
  if (!waiting.isConnected) return;
  if (!lesson) {
    waiting.textContent = $("trouble").textContent;
    return;
  }
  const use = make("button", { type: "button", className: "main", id: "take-lesson", on: { click: async () => {
    if (await edit("learn")) closeDialog();
  } } }, "Take this");
  showDialog("Learn from this", make("p", {}, `${lesson.text}.`),
    make("div", { className: "row" }, use, make("span", { className: "muted" }, "Undo brings back what is there now.")),
    ...changed(lesson));
}

async function showQuestions() {
  const waiting = make("p", { role: "status" }, "Looking for the questions whose answers would tell most.");
  showDialog("Questions", waiting);
  const found = await attempt(() => fetchJson("tell/questions", { skip: skipped }));
  if (!waiting.isConnected) return;
  if (!found) waiting.textContent = $("trouble").textContent;
  else if (!found.questions.length) waiting.textContent = "There is nothing left to ask.";
  else askQuestion(found.questions, 0);
}

const skipped = [];

// Asks one after the other; groups that answers have made one are not asked about again.
function askQuestion(questions, place) {
  const question = questions[place];
  if (!question) {
    showDialog("Questions", make("p", {}, `All ${questions.length} are done.`),
      make("div", { className: "row" },
        state.said ? make("button", { type: "button", className: "main", on: { click: showLearn } }, "Learn from this") : null,
        make("button", { type: "button", on: { click: showQuestions } }, "More questions")));
    return;
  }
  const groups = question.groups.map(groupOf).filter(Boolean);
  if (groups.length < 2) {
    askQuestion(questions, place + 1);
    return;
  }
  let done = false;
  // Makes the edits of an answer, and asks the next.
  const answer = async (...edits) => {
    if (done) return;
    done = true;
    if (!edits.length) for (const other of question.rows.slice(1)) skipped.push([question.rows[0], other]);
    for (const [action, values] of edits) {
      if (!await edit(action, values)) {
        done = false;
        return;
      }
    }
    if ($("dialog").open) askQuestion(questions, place + 1);
  };
  const [content, keys] = question.same ? askSame(question, groups, answer) : askWhich(question, groups, answer);
  keys.s = keys[" "] = () => answer();
  const box = make("div", { className: "question", tabIndex: -1, role: "group", "aria-label": `Question ${place + 1} of ${questions.length}`, on: { keydown: (event) => {
    // Space and Enter press the button that has the focus.
    const pressed = event.target !== box && (event.key === " " || event.key === "Enter");
    if (pressed || !keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    keys[event.key]();
  } } }, ...content, make("div", { className: "row" },
    ...(question.same ? [keyButton("Yes", "Y", keys.y, true), keyButton("No", "N", keys.n, true)]
      : [keyButton("None of these", "0", keys[0], false), keyButton("Several", "M", keys.m, false)]),
    keyButton("Can't tell", "S", keys.s, false),
    make("span", { className: "muted" }, `${place + 1} of ${questions.length}`)));
  showDialog(question.same ? "Are these two groups one?" : "Which group is it of?", box);
  box.focus({ preventScroll: true });
  $("dialog").scrollTop = 0;
}

function keyButton(text, key, act, main) {
  return make("button", { type: "button", className: main ? "main" : "", "aria-keyshortcuts": key, on: { click: act } }, text, " ", make("kbd", {}, key));
}

// A group by its name and the pictures that it is surest of.
function groupFace(group, count, without) {
  const rows = group.rows.filter((row) => row !== without).slice(0, count);
  return [state.pictures ? make("span", { className: "faces" }, ...rows.map(face)) : null,
    make("span", { className: "label" }, group.name, make("span", { className: "size" }, ` ${number.format(group.size)}`))].filter(Boolean);
}

// Are two groups one? They are put together when that is learnt.
function askSame(question, groups, answer) {
  const ids = groups.map((group) => group.id);
  const content = make("div", { className: "pair" }, ...groups.map((group) => make("div", {}, ...groupFace(group, 4))));
  return [[content], {
    y: () => answer(["same", { groups: ids }]),
    n: () => answer(["answer", { rows: question.rows, same: false }]),
  }];
}

// Which group is a picture of? Where several fit, they are one.
function askWhich(question, groups, answer) {
  const [row] = question.rows;
  const fitting = new Set();
  let several = false;
  const choose = (group) => {
    if (!several) {
      answer(["move", { rows: [row], into: group.id }]);
      return;
    }
    if (!fitting.delete(group)) fitting.add(group);
    buttons[groups.indexOf(group)].setAttribute("aria-pressed", String(fitting.has(group)));
    finish.hidden = fitting.size < 2;
  };
  const buttons = groups.map((group, place) => make("button", { type: "button", "aria-keyshortcuts": place + 1, on: { click: () => choose(group) } },
    make("kbd", {}, place + 1), ...groupFace(group, 3, row)));
  const done = () => {
    if (fitting.size < 2) return;
    const ids = [...fitting].map((group) => group.id);
    answer(["same", { groups: ids }], ["move", { rows: [row], into: ids[0] }]);
  };
  const finish = keyButton("They are one group", "Enter", done, true);
  finish.hidden = true;
  const hint = make("p", { className: "muted", role: "status" });
  const keys = {
    0: () => answer(["move", { rows: [row] }]),
    Enter: done,
    m: () => {
      several = !several;
      fitting.clear();
      finish.hidden = true;
      hint.textContent = several ? "Name all that it is of: learning puts them together." : "";
      for (const button of buttons) {
        if (several) button.setAttribute("aria-pressed", "false");
        else button.removeAttribute("aria-pressed");
      }
    },
  };
  keys.n = keys[0];
  groups.forEach((group, place) => { keys[place + 1] = () => choose(group); });
  const shownPicture = make("figure", {}, state.pictures ? make("img", { src: `picture/${row}?large`, alt: question.image.path }) : null,
    make("figcaption", { className: state.pictures ? "visually-hidden" : "path" }, question.image.path));
  return [[make("div", { className: "which" }, shownPicture, make("div", { className: "choices" }, ...buttons)), hint, finish], keys];
}

function showExport() {
  const answer = make("p", { role: "status" });
  showDialog("Export the groups as they are now", make("div", { className: "choices" },
    ...Object.entries(state.formats).map(([format, text]) => make("button", { type: "button", id: `export-${format}`, on: { click: async () => {
      answer.textContent = "Writing";
      const done = await attempt(() => fetchJson("tell/export", { format }));
      answer.textContent = done ? done.text : $("trouble").textContent;
    } } }, make("span", {}, format), make("span", { className: "size" }, text)))), answer);
}

const KEYS = [
  ["G, P", "to the groups, to the pictures"],
  ["↑ ↓ ← →", "from one to the next"],
  ["Space", "mark a group; select a picture, with Shift all in between"],
  ["Ctrl A, Esc", "select all that are shown; none"],
  ["Enter", "open a group; show a picture large"],
  ["R, S", "rename the group; split it"],
  ["M", "merge the marked groups, or this one with another"],
  ["V, N", "move the selected to a group; to a new one"],
  ["X", "not this: they go to their next likeliest group"],
  ["O, D", "none of these; duplicate, or no longer"],
  ["L, /", "pictures like this one; like a word"],
  ["U, Shift U", "undo, redo; also Ctrl Z and Ctrl Shift Z"],
  ["Q, Shift L", "questions, answered with 1 to 6, 0, Y, N or S; learn from what you said"],
  ["T, K, E", "tree; versions; export"],
];

function showKeys() {
  showDialog("Keys", make("table", {}, make("tbody", {}, ...KEYS.map(([keys, text]) => make("tr", {},
    make("th", { scope: "row" }, make("kbd", {}, keys)), make("td", {}, text))))),
    make("p", { className: "muted" }, "Drag pictures onto a group to move them, a group onto another to merge both. Every change is on the disk at once."));
}

function showLarge(row) {
  const image = shown.images.find((each) => each.row === row);
  if (!image) return;
  showDialog(nameOf(image.group),
    state.pictures ? make("img", { className: "large", src: `picture/${row}?large`, alt: image.path }) : null,
    make("p", { className: "path" }, image.path),
    make("p", { className: "muted" }, image.placed ? "Placed by hand" : `Confidence ${Math.round(image.confidence * 100)} %`));
}

// What people do

$("groups").addEventListener("click", (event) => {
  const node = event.target.closest(".group");
  if (!node) return;
  const id = Number(node.dataset.group);
  if ((event.ctrlKey || event.metaKey || event.shiftKey) && id >= 0) markGroup(id);
  else openGroup(id);
  node.focus();
});

function markGroup(id) {
  if (id < 0) return;
  if (marked.has(id)) marked.delete(id);
  else marked.add(id);
  drawGroups();
}

$("pictures").addEventListener("click", (event) => {
  const node = event.target.closest(".picture");
  if (!node) return;
  node.focus({ preventScroll: true });
  toggle(Number(node.dataset.row), event.shiftKey);
});

$("pictures").addEventListener("dblclick", (event) => {
  const node = event.target.closest(".picture");
  if (node) showLarge(Number(node.dataset.row));
});

document.addEventListener("dragstart", (event) => {
  const picture = event.target.closest(".picture");
  const group = event.target.closest(".group");
  if (picture) {
    const row = Number(picture.dataset.row);
    dragged = { rows: selected.has(row) ? [...selected] : [row] };
  } else if (group) dragged = { group: Number(group.dataset.group) };
  else return;
  event.dataTransfer.effectAllowed = "move";
  event.dataTransfer.setData("text/plain", "");
});

document.addEventListener("dragend", () => {
  dragged = null;
  for (const node of document.querySelectorAll(".over")) node.classList.remove("over");
});

function dropTarget(event) {
  const node = event.target.closest && event.target.closest(".group");
  if (!dragged || !node) return null;
  const id = Number(node.dataset.group);
  if (dragged.group !== undefined && (id < 0 || id === dragged.group)) return null;
  return node;
}

$("groups").addEventListener("dragover", (event) => {
  const node = dropTarget(event);
  for (const each of document.querySelectorAll(".over")) if (each !== node) each.classList.remove("over");
  if (!node) return;
  event.preventDefault();
  node.classList.add("over");
});

$("groups").addEventListener("drop", (event) => {
  const node = dropTarget(event);
  if (!node) return;
  event.preventDefault();
  const id = Number(node.dataset.group);
  const { rows, group } = dragged;
  if (group !== undefined) edit("merge", { groups: [id, group] });
  else if (id === NOWHERE) edit("mark", { rows, mark: "outlier" });
  else if (id === DUPLICATES) edit("mark", { rows, mark: "duplicate" });
  else edit("move", { rows, into: id });
});

function walk(list, node, key) {
  const all = [...list.children];
  const place = all.indexOf(node);
  const across = all.filter((each) => each.offsetTop === all[0].offsetTop).length || 1;
  const columns = list.id === "pictures" ? across : 1;
  const to = {
    ArrowUp: place - columns,
    ArrowDown: place + columns,
    ArrowLeft: place - 1,
    ArrowRight: place + 1,
    Home: 0,
    End: all.length - 1,
  }[key];
  if (to === undefined) return null;
  const next = all[Math.min(Math.max(to, 0), all.length - 1)];
  for (const each of all) each.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
  next.scrollIntoView({ block: "nearest" });
  return next;
}

$("groups").addEventListener("keydown", (event) => {
  const node = event.target.closest(".group");
  if (!node || event.ctrlKey || event.metaKey || event.altKey) return;
  const id = Number(node.dataset.group);
  const acts = {
    Enter: () => openGroup(id),
    " ": () => markGroup(id),
    F2: () => askRename(id),
    r: () => askRename(id),
    s: () => askSplit(id),
    m: () => askMerge(id),
  };
  if (walk($("groups"), node, event.key)) event.preventDefault();
  else if (acts[event.key]) {
    event.preventDefault();
    event.stopPropagation();
    acts[event.key]();
  }
});

$("pictures").addEventListener("keydown", (event) => {
  const node = event.target.closest(".picture");
  if (!node || event.altKey) return;
  const row = Number(node.dataset.row);
  if (event.ctrlKey || event.metaKey) {
    if (event.key !== "a") return;
    event.preventDefault();
    for (const image of shown.images) selected.add(image.row);
    drawSelection();
    return;
  }
  const extending = event.shiftKey && event.key.startsWith("Arrow");
  if (extending && anchor === null) anchor = row;
  const next = walk($("pictures"), node, event.key);
  if (next) {
    event.preventDefault();
    if (extending) toggle(Number(next.dataset.row), true);
    return;
  }
  const acts = {
    " ": () => toggle(row, event.shiftKey),
    Enter: () => showLarge(row),
    v: () => onRows("move"),
    n: () => onRows("new"),
    x: () => onRows("refuse"),
    o: () => onRows("outlier"),
    d: () => onRows("duplicate"),
    l: () => openFound("Pictures like this one", `ask/like?row=${row}`),
  };
  if (!acts[event.key]) return;
  event.preventDefault();
  acts[event.key]();
});

document.addEventListener("keydown", (event) => {
  if ($("dialog").open || event.defaultPrevented || event.altKey) return;
  if (event.target.matches("input, select, textarea")) return;
  if (event.ctrlKey || event.metaKey) {
    if (event.key.toLowerCase() === "z") {
      event.preventDefault();
      edit(event.shiftKey ? "redo" : "undo");
    } else if (event.key === "y") {
      event.preventDefault();
      edit("redo");
    }
    return;
  }
  const focusIn = (list) => {
    const node = list.querySelector("[tabindex='0']") || list.firstElementChild;
    if (node) node.focus();
  };
  const acts = {
    u: () => edit("undo"),
    U: () => edit("redo"),
    g: () => focusIn($("groups")),
    p: () => focusIn($("pictures")),
    r: () => askRename(view.group),
    s: () => askSplit(view.group),
    m: () => askMerge(view.group),
    t: () => { if (state.tree) showTree(); },
    k: showVersions,
    e: showExport,
    q: showQuestions,
    L: () => { if (state.said) showLearn(); },
    "/": () => $("word").focus(),
    "?": showKeys,
    Escape: () => onRows("clear"),
  };
  if (!acts[event.key]) return;
  event.preventDefault();
  acts[event.key]();
});

$("undo").addEventListener("click", () => edit("undo"));
$("redo").addEventListener("click", () => edit("redo"));
$("rename").addEventListener("click", () => askRename(view.group));
$("split").addEventListener("click", () => askSplit(view.group));
$("merge").addEventListener("click", () => askMerge(view.group));
$("merge-marked").addEventListener("click", () => askMerge(null));
$("open-tree").addEventListener("click", showTree);
$("open-versions").addEventListener("click", showVersions);
$("open-questions").addEventListener("click", showQuestions);
$("open-learn").addEventListener("click", showLearn);
$("open-export").addEventListener("click", showExport);
$("open-keys").addEventListener("click", showKeys);
$("order").addEventListener("change", () => openGroup(view.group));
$("selection").addEventListener("click", (event) => {
  if (event.target.dataset.do) onRows(event.target.dataset.do);
});
$("search").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("word").value.trim();
  if (text) openFound(`Pictures like ${text}`, `ask/word?text=${encodeURIComponent(text)}`);
});

function loadNear() {
  if ($("more").getBoundingClientRect().top < innerHeight + 600) loadMore();
}

// On a phone the page scrolls, elsewhere the pictures alone do.
$("main").addEventListener("scroll", loadNear, { passive: true });
addEventListener("scroll", loadNear, { passive: true });

// Another window may have changed something. What an edit complained of stays to be read.
let lost = false;

async function poll() {
  if (document.visibilityState !== "visible" || !state) return;
  try {
    const { version } = await fetchJson("ask/version");
    if (lost) trouble(null);
    lost = false;
    if (version === state.version) return;
    take(await fetchJson("ask/state"));
    if (view.kind === "group" && view.group >= 0 && !groupOf(view.group)) setView(state.groups[0].id);
    await reload();
    say("Changed in another window");
  } catch (error) {
    lost = true;
    trouble(error);
  }
}

setInterval(poll, 1500);
document.addEventListener("visibilitychange", poll);

attempt(async () => {
  take(await fetchJson("ask/state"));
  if (state.notes.length) say(state.notes.join(" "));
  setView(state.groups.length ? state.groups[0].id : NOWHERE);
  await reload();
});
