"use strict";
// Sorts a table by the column whose heading is pressed: numbers by value, the rest as text, blanks last.
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    heading.querySelector("button").addEventListener("click", () => {
      const descending = heading.getAttribute("aria-sort") === "ascending";
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
      const order = (a, b) => {
        if (key(a) === "" || key(b) === "") return (key(a) === "") - (key(b) === "");
        const compared = key(a).localeCompare(key(b), "en", { numeric: false });
        const difference = Number(key(a)) - Number(key(b));
        return (descending ? -1 : 1) * (Number.isNaN(difference) ? compared : difference);
      };
      table.tBodies[0].append(...[...table.tBodies[0].rows].sort(order));
    });
  });
}
// The phone's cards name their numbers by the headings of the columns.
for (const table of document.querySelectorAll("table.sortable")) {
  const names = [...table.tHead.rows[0].cells].map((heading) => heading.textContent.trim());
  for (const row of table.tBodies[0].rows) [...row.cells].forEach((cell, index) => (cell.dataset.name = names[index]));
}
document.documentElement.classList.add("cards");

// Shows and hides everything that is about one model.
const toggles = document.querySelector(".toggles");
if (toggles) {
  toggles.hidden = false;
  const boxes = [...toggles.querySelectorAll("input")];
  const show = () => {
    for (const box of boxes) {
      for (const part of document.querySelectorAll(`[data-model="${box.value}"]`)) part.classList.toggle("off", !box.checked);
    }
  };
  toggles.addEventListener("change", show);
  toggles.addEventListener("click", (event) => {
    if (!event.target.closest("button")) return;
    boxes.forEach((box) => (box.checked = event.target.value === "all"));
    show();
  });
  show();
}

// Opens or folds the panels of a section; a link to a section leaves them as they are.
for (const folds of document.querySelectorAll(".folds")) {
  folds.hidden = false;
  folds.addEventListener("click", (event) => {
    const group = event.target.closest("button");
    if (group) folds.parentElement.querySelectorAll("details.group").forEach((part) => (part.open = group.value === "open"));
  });
}

// A panel's curves by keyboard (arrows) and by touch (the nearest one): their numbers stand below the panel.
for (const figure of document.querySelectorAll("figure.named")) {
  const output = figure.querySelector("output");
  const curves = [...figure.querySelectorAll("g")].filter((group) => group.querySelector(":scope > title"));
  if (!curves.length) continue;
  let chosen = -1;
  const choose = (index) => {
    curves.forEach((curve, other) => curve.classList.toggle("chosen", other === index));
    chosen = index;
    output.textContent = curves[index].querySelector("title").textContent;
  };
  figure.tabIndex = 0;
  output.textContent = `${curves.length} ${curves.length === 1 ? "curve" : "curves"}: tap one, or use the arrow keys`;
  figure.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    choose(chosen < 0 ? (step > 0 ? 0 : curves.length - 1) : (chosen + step + curves.length) % curves.length);
  });
  figure.addEventListener("click", (event) => {
    const away = curves.map((curve) => distance(curve.querySelector("path"), event.clientX, event.clientY));
    choose(away.indexOf(Math.min(...away)));
  });
}

function distance(path, x, y) {
  const place = path.getScreenCTM();
  const length = path.getTotalLength();
  let least = Infinity;
  for (let part = 0; part <= 200; part += 1) {
    const point = path.getPointAtLength((length * part) / 200).matrixTransform(place);
    least = Math.min(least, Math.hypot(point.x - x, point.y - y));
  }
  return least;
}
