"use strict";
const table = document.querySelector("table.sortable");
const heads = [...table.tHead.rows[0].cells];
const body = table.tBodies[0];
const rows = [...body.rows];
const titles = heads.map(head => head.textContent);
document.querySelector(".tools").hidden = false;

const key = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent;
let order = rows;
let grouping = "";

function show() {
  body.replaceChildren();
  const column = heads.findIndex(head => grouping !== "" && head.dataset.grouping === grouping);
  if (column < 0) { body.append(...order); return; }
  const groups = new Map();
  for (const row of order) {
    const name = key(row, column);
    if (!groups.has(name)) groups.set(name, []);
    groups.get(name).push(row);
  }
  for (const name of [...groups.keys()].sort()) {
    const members = groups.get(name);
    const line = document.createElement("tr");
    line.className = "group";
    const cell = line.insertCell();
    cell.colSpan = heads.length;
    cell.textContent = `${grouping}: ${name || "not stated"} (${members.length} ${members.length === 1 ? "slide" : "slides"})`;
    body.append(line, ...members);
  }
}

heads.forEach((head, column) => {
  const button = document.createElement("button");
  button.textContent = titles[column];
  head.replaceChildren(button);
  button.addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const number = head.classList.contains("number");
    const compare = (a, b) => number ? Number(a) - Number(b) : a.localeCompare(b, undefined, {numeric: true});
    const known = rows.filter(row => key(row, column) !== "");
    const unknown = rows.filter(row => key(row, column) === "");
    known.sort((a, b) => (up ? 1 : -1) * compare(key(a, column), key(b, column)));
    order = [...known, ...unknown];
    show();
  });
});

document.getElementById("filter").addEventListener("input", event => {
  const wanted = event.target.value.toLowerCase();
  for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
});

document.getElementById("group")?.addEventListener("change", event => {
  grouping = event.target.selectedIndex === 0 ? "" : event.target.value;
  show();
});

const choices = document.getElementById("columns");
heads.forEach((head, column) => {
  const label = document.createElement("label");
  const box = document.createElement("input");
  box.type = "checkbox";
  box.checked = true;
  box.addEventListener("change", () => {
    for (const row of [table.tHead.rows[0], ...rows]) row.cells[column].hidden = !box.checked;
  });
  label.append(box, titles[column]);
  choices.append(label);
});
