"use strict";
const answers = document.getElementById("answers");
const { lecture, exercise, run, possible, keys } = answers.dataset;
const cards = [...answers.querySelectorAll(".one")];
const at = (id) => document.getElementById(id);
const place = `marks/${lecture}/${exercise}/${run}`;
let current = null;
let unsaved = false;
let edits = {}; // student -> {points, comment, marker, base, version}
let kept = []; // comments that the marker keeps for others

function warn(text) {
  at("warning").textContent = text;
  at("warning").hidden = !text;
}

function load() {
  try {
    const stored = JSON.parse(localStorage.getItem(place) || "{}");
    edits = stored.edits || {};
    kept = stored.kept || [];
    at("marker").value = localStorage.getItem("marks/marker") || "";
  } catch {
    warn("This browser keeps nothing for this page: save often.");
  }
  for (const card of cards) {
    const { student, points, comment } = card.dataset;
    const edit = edits[student];
    if (edit && edit.points === points && edit.comment === comment) delete edits[student]; // merged by now
  }
}

function keep() {
  try {
    localStorage.setItem(place, JSON.stringify({ edits, kept }));
    localStorage.setItem("marks/marker", at("marker").value.trim());
  } catch {
    warn("This browser keeps nothing for this page: save often.");
  }
}

const field = (card, name) => card.querySelector(`[data-field=${name}]`);
const valueOf = (card) => edits[card.dataset.student] || card.dataset;
const isMarked = (card) => valueOf(card).points !== "";

function parsePoints(text) {
  const clean = text.trim().replace(",", ".");
  if (clean === "") return "";
  return /^\d+(\.\d+)?$/.test(clean) && Number(clean) <= Number(possible) ? String(Number(clean)) : null;
}

function show(card) {
  const { points, comment } = valueOf(card);
  const edited = card.dataset.student in edits;
  if (field(card, "points") !== document.activeElement) field(card, "points").value = points;
  if (field(card, "comment") !== document.activeElement) field(card, "comment").value = comment;
  const badge = card.querySelector("[data-badge]");
  const news = edited && edits[card.dataset.student].version !== card.dataset.version ? ", the answer is another now" : "";
  badge.textContent = points === "" ? "to mark" : `${points} of ${possible}${edited ? ", not merged yet" : ""}${news}`;
  badge.className = `badge ${points === "" ? "ours" : edited ? "good" : "none"}`;
}

function edit(card, change) {
  const { student, version, base } = card.dataset;
  const { points, comment } = valueOf(card);
  const before = edits[student] ? edits[student].base : base;
  edits[student] = { points, comment, version, base: before, marker: at("marker").value.trim(), ...change };
  unsaved = true;
  keep();
  show(card);
  count();
}

function inShare(index) {
  const parts = Math.max(1, Number(at("parts").value) || 1);
  const part = Math.min(Math.max(1, Number(at("part").value) || 1), parts);
  return index % parts === part - 1;
}

function count() {
  const mine = cards.filter((_, index) => inShare(index));
  const done = mine.filter(isMarked).length;
  at("progress").textContent = `${done} of ${mine.length} marked${unsaved ? ", not saved" : ""}`;
}

function filter() {
  cards.forEach((card, index) => {
    const hide = !inShare(index) || (at("unmarked").checked && isMarked(card) && card !== current);
    card.hidden = hide;
  });
  if (current && current.hidden) leaveHidden();
  count();
}

function leaveHidden() {
  const seen = cards.filter((card) => !card.hidden);
  current.classList.remove("now");
  current = null; // no key may mark an answer that is not seen
  go(seen.find((card) => !isMarked(card)) || seen[0], false);
}

function go(card, focus = true) {
  if (!card) return;
  if (current) current.classList.remove("now");
  current = card;
  card.classList.add("now");
  if (focus) {
    card.focus({ preventScroll: true });
    card.scrollIntoView({ block: "start" });
  }
  drawBank();
}

function step(by) {
  const seen = cards.filter((card) => !card.hidden);
  go(seen[seen.indexOf(current) + by]);
}

function nextUnmarked() {
  const seen = cards.filter((card) => !card.hidden);
  const from = seen.indexOf(current);
  go([...seen.slice(from + 1), ...seen.slice(0, from + 1)].find((card) => !isMarked(card)));
}

function lines(card) {
  return valueOf(card).comment.split("\n").filter((line) => line !== "");
}

function toggle(item) {
  if (!current) return;
  const { text, points } = item;
  const said = lines(current);
  const there = said.includes(text);
  const comment = (there ? said.filter((line) => line !== text) : [...said, text]).join("\n");
  const change = { comment };
  if (points !== "") {
    const sum = Number(valueOf(current).points || 0) + (there ? -1 : 1) * Number(points);
    change.points = String(Math.min(Math.max(sum, 0), Number(possible)));
  }
  edit(current, change);
  drawBank();
}

const ours = [...at("bank").querySelectorAll("li[data-text]")].map((li) => ({ ...li.dataset }));

function drawBank() {
  const items = [...ours, ...kept.filter((text) => !ours.some((item) => item.text === text)).map((text) => ({ text, points: "" }))];
  const said = current ? lines(current) : [];
  const held = document.activeElement && document.activeElement.dataset ? document.activeElement.dataset.item : undefined;
  at("bank").replaceChildren(
    ...items.map((item, index) => {
      const li = document.createElement("li");
      const button = document.createElement("button");
      const key = keys[index];
      button.type = "button";
      button.dataset.item = index;
      button.setAttribute("aria-pressed", String(said.includes(item.text)));
      if (key) {
        const mark = document.createElement("kbd");
        mark.textContent = key;
        button.append(mark, " ");
      }
      button.append(item.points === "" ? item.text : `+${item.points} ${item.text}`);
      button.addEventListener("click", () => toggle(item));
      li.append(button);
      return li;
    }),
  );
  if (held !== undefined) at("bank").querySelector(`[data-item="${held}"]`)?.focus();
  return items;
}

function keepComment() {
  const text = current ? valueOf(current).comment.trim() : "";
  for (const line of text.split("\n")) {
    if (line && !kept.includes(line) && !ours.some((item) => item.text === line)) kept.push(line);
  }
  keep();
  drawBank();
}

const FORMULA = ["=", "+", "-", "@", "\t", "\r", "\n"];

function cell(text) {
  const safe = FORMULA.includes(text.slice(0, 1)) ? `'${text}` : text;
  return `"${safe.replaceAll('"', '""')}"`;
}

function save() {
  const marker = at("marker").value.trim();
  if (!marker) {
    warn("Who marks? Enter your name above, so that the tables of several markers can be told apart.");
    at("marker").focus();
    return;
  }
  const here = new Set(cards.map((card) => card.dataset.student));
  const mine = Object.entries(edits).filter(([student]) => here.has(student));
  const rows = mine.map(([student, mark]) => {
    const { points, comment, version, base } = mark;
    return [student, `exercise ${exercise}`, points, comment, mark.marker || marker, version, base];
  });
  if (!rows.length) {
    warn("Nothing is marked yet.");
    return;
  }
  warn("");
  const table = [["student", "exercise", "points", "comment", "marker", "version", "base"], ...rows];
  const text = "\ufeff" + table.map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  link.download = `marks_${exercise}_${marker.replace(/[^\p{L}\p{N}-]+/gu, "_")}.csv`;
  link.click();
  unsaved = false;
  count();
}

function typed(card, name) {
  const input = field(card, name);
  if (name === "comment") return edit(card, { comment: input.value });
  const points = parsePoints(input.value);
  input.setAttribute("aria-invalid", String(points === null));
  warn(points === null ? `${input.value} is no number from 0 to ${possible}; it is not kept.` : "");
  if (points !== null) edit(card, { points });
}

function pressed(event) {
  const inField = event.target.matches("input:not([type=checkbox]), textarea, select");
  if (!inField && !at("shortcuts").checked) return;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (inField) {
    const leave = event.key === "Escape" || (event.key === "Enter" && event.target.dataset.field === "points");
    if (leave && current) {
      event.preventDefault();
      go(current);
      if (event.key === "Enter") step(1);
    }
    return;
  }
  const digit = /^\d$/.test(event.key) && Number(event.key) <= Number(possible);
  const index = keys.indexOf(event.key);
  const items = index >= 0 ? drawBank() : [];
  const actions = {
    j: () => step(1),
    k: () => step(-1),
    n: nextUnmarked,
    c: () => current && field(current, "comment").focus(),
    x: keepComment,
    s: save,
    h: () => current && edit(current, { points: String(Math.min(Number(valueOf(current).points || 0) + 0.5, Number(possible))) }),
  };
  if (digit && current) edit(current, { points: event.key });
  else if (items[index]) toggle(items[index]);
  else if (event.key in actions) actions[event.key]();
  else return;
  event.preventDefault();
}

load();
for (const card of cards) {
  for (const name of ["points", "comment"]) field(card, name).addEventListener("input", () => typed(card, name));
  card.addEventListener("focusin", () => card !== current && go(card, false));
  card.addEventListener("click", () => card !== current && go(card, false));
  show(card);
}
for (const id of ["part", "parts", "unmarked"]) at(id).addEventListener("input", filter);
at("nameless").addEventListener("input", () => document.body.classList.toggle("nameless", at("nameless").checked));
at("marker").addEventListener("input", keep);
at("save").addEventListener("click", save);
at("keep").addEventListener("click", keepComment);
document.addEventListener("keydown", pressed);
window.addEventListener("beforeunload", (event) => unsaved && event.preventDefault());
filter();
const first = cards.find((card) => !card.hidden && !isMarked(card)) || cards.find((card) => !card.hidden);
go(first, first !== cards[0]);
drawBank();
