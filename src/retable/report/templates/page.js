"use strict";
// Sorting by a click on a column's head, also asked for by the address: #sort=<table>:<column>:<ascending|descending>.
function sortTable(table, column, direction) {
  const body = table.tBodies[0];
  const value = (row) => {
    const cell = row.cells[column];
    const text = cell.dataset.sort !== undefined ? cell.dataset.sort : cell.textContent.trim();
    const number = text === "" || text === "–" ? NaN : Number(text);
    return { text, number, absent: text === "" || text === "–" };
  };
  const rows = [...body.rows].map((row, place) => ({ row, place, ...value(row) }));
  const numeric = rows.every((r) => r.absent || !Number.isNaN(r.number));
  const sign = direction === "descending" ? -1 : 1;
  rows.sort((a, b) => {
    if (a.absent !== b.absent) return a.absent ? 1 : -1;
    const order = numeric ? a.number - b.number : a.text.localeCompare(b.text, "en", { numeric: true });
    return (a.absent ? 0 : sign * order) || a.place - b.place;
  });
  rows.forEach((r) => body.append(r.row));
  table.querySelectorAll("th[data-column]").forEach((head) => {
    if (Number(head.dataset.column) === column) head.setAttribute("aria-sort", direction);
    else head.removeAttribute("aria-sort");
  });
}
document.querySelectorAll("table.sortable").forEach((table) => {
  table.querySelectorAll("th[data-column]").forEach((head) => {
    const column = Number(head.dataset.column);
    const sort = () => sortTable(table, column, head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending");
    head.classList.add("can-sort");
    head.tabIndex = 0;
    head.addEventListener("click", sort);
    head.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); sort(); }
    });
  });
});
function sortAsAsked() {
  const asked = /^#sort=([\w-]+):(\d+):(ascending|descending)$/.exec(decodeURIComponent(location.hash));
  const table = asked && document.getElementById(asked[1]);
  if (table) { sortTable(table, Number(asked[2]), asked[3]); table.scrollIntoView(); }
}
window.addEventListener("hashchange", sortAsAsked);
sortAsAsked();
// A click on a legend's entry picks its lines out, a second one lets go.
document.querySelectorAll(".chart .keys li").forEach((key) => {
  const chart = key.closest(".chart");
  const pick = () => {
    key.classList.toggle("picked");
    chart.querySelectorAll(`.line-${key.dataset.line}`).forEach((line) => line.classList.toggle("picked"));
    chart.classList.toggle("picking", chart.querySelector(".keys .picked") !== null);
  };
  key.tabIndex = 0;
  key.setAttribute("role", "button");
  key.addEventListener("click", pick);
  key.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); pick(); }
  });
});
