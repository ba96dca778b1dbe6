"use strict";
// Filters and sorts the tables, and keeps what is shown in the address, so that every view is a link.
const byId = (id) => document.getElementById(id);
const suites = [...document.querySelectorAll("section.suite")];
const filters = ["track", "size", "tier"];
const ALL = "all tasks";
const columns = [...document.querySelectorAll("#columns input")];
const FEW = "curves cost"; // the columns that fit a laptop; all where the screen is wide
let state = {};

const suiteNow = () => suites.find((suite) => suite.dataset.suite === state.suite) ?? suites[0];
const tasksOf = (suite) => suite.dataset.tasks.split(" ");
const choices = (suite) => (tasksOf(suite).length > 1 ? [ALL, ...tasksOf(suite)] : tasksOf(suite));

function read() {
  const given = new URLSearchParams(location.hash.slice(1));
  state = Object.fromEntries(["suite", "task", "sort", "entry", "columns", ...filters].map((key) => [key, given.get(key) ?? ""]));
  state.down = given.get("order") === "down";
}

function write() {
  const shown = new URLSearchParams();
  for (const [key, value] of Object.entries(state)) if (value && key !== "down") shown.set(key, value);
  if (state.sort) shown.set("order", state.down ? "down" : "up");
  history.replaceState(null, "", `#${shown}`);
}

function visible(heading) {
  return getComputedStyle(heading).display !== "none";
}

function sort(table) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading) => heading.removeAttribute("aria-sort"));
  const heading = headings.find((each) => each.dataset.key === (state.sort || "rank") && visible(each));
  if (!heading) return;
  if (state.sort) heading.setAttribute("aria-sort", state.down ? "descending" : "ascending");
  const column = heading.cellIndex;
  const keyed = [...table.tBodies[0].rows].map((row) => [row.cells[column].dataset.value ?? row.cells[column].textContent.trim(), row]);
  const direction = state.sort && state.down ? -1 : 1;
  keyed.sort(([a], [b]) => {
    if (a === "" || b === "") return (a === "") - (b === "");
    const difference = Number(a) - Number(b);
    return direction * (Number.isNaN(difference) ? a.localeCompare(b, "en") : difference);
  });
  table.tBodies[0].append(...keyed.map(([, row]) => row));
}

function show() {
  const suite = suiteNow();
  suites.forEach((each) => (each.hidden = each !== suite));
  byId("suite").value = suite.dataset.suite;
  const tasks = choices(suite);
  byId("task").replaceChildren(...tasks.map((task) => new Option(task, task)));
  const task = tasks.includes(state.task) ? state.task : tasks[0];
  byId("task").value = task;
  const table = suite.querySelector("table");
  const shown = (state.columns || (innerWidth < 1700 ? FEW : "curves grid cost more")).split(/[ +]/);
  columns.forEach((box) => (box.checked = shown.includes(box.value)));
  const hidden = columns.filter((box) => !box.checked).map((box) => `hide-${box.value}`);
  table.className = ["board", `show-${task === ALL ? "all" : tasksOf(suite).indexOf(task)}`, ...hidden].join(" ");
  filters.forEach((key) => {
    byId(key).value = state[key];
    if (byId(key).selectedIndex < 0) byId(key).value = state[key] = "";
  });
  const rows = [...table.tBodies[0].rows];
  rows.forEach((row) => {
    row.hidden = filters.some((key) => state[key] && row.dataset[key] !== state[key]);
    row.classList.toggle("marked", row.dataset.entry === state.entry);
  });
  sort(table);
  const left = rows.filter((row) => !row.hidden).length;
  byId("empty").hidden = left > 0 || rows.length === 0;
  byId("count").textContent = left === rows.length ? `${left} entries` : `${left} of ${rows.length} entries`;
}

function change(changes) {
  Object.assign(state, changes);
  show();
  write();
}

byId("suite").addEventListener("change", (event) => change({ suite: event.target.value, task: "", sort: "" }));
byId("task").addEventListener("change", (event) => change({ task: event.target.value, sort: "" }));
filters.forEach((key) => byId(key).addEventListener("change", (event) => change({ [key]: event.target.value })));
columns.forEach((box) =>
  box.addEventListener("change", () => change({ columns: columns.filter((each) => each.checked).map((each) => each.value).join(" ") || "none" })),
);
byId("reset").addEventListener("click", () => {
  change(Object.fromEntries(filters.map((key) => [key, ""])));
  byId("track").focus();
});
suites.forEach((suite) => {
  // The phone's cards name their numbers by the headings of the columns.
  const names = [...suite.querySelectorAll("thead th")].map((heading) => heading.textContent.trim());
  for (const row of suite.querySelector("tbody").rows) [...row.cells].forEach((cell, index) => (cell.dataset.name = names[index]));
  suite.querySelector("thead").addEventListener("click", (event) => {
    const heading = event.target.closest("button")?.closest("th");
    if (!heading) return;
    const again = state.sort === heading.dataset.key;
    // The best first: numbers fall, but for ranks, costs and names.
    const rises = ["entry", "rank", "samples", "flops", "parameters", "size", "track", "tier"];
    change({ sort: heading.dataset.key, down: again ? !state.down : !rises.includes(heading.dataset.key) });
  });
});
window.addEventListener("hashchange", () => {
  read();
  show();
});
document.documentElement.classList.add("cards");
read();
show();
document.querySelector("tr.marked")?.scrollIntoView({ block: "center" });
