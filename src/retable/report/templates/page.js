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
// Which rows a text leaves: every word of it must stand in them.
function keepRows(rows, text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  let kept = 0;
  rows.forEach((row) => {
    const content = row.textContent.toLowerCase();
    row.hidden = !words.every((word) => content.includes(word));
    kept += row.hidden ? 0 : 1;
  });
  return kept;
}
function element(name, attributes, text) {
  const made = Object.assign(document.createElement(name), attributes);
  if (text !== undefined) made.textContent = text;
  return made;
}
// A long table gets a field that filters its rows, and a wide one a list of its columns.
document.querySelectorAll("table.sortable").forEach((table) => {
  const tools = element("div", { className: "tools" });
  const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  if (table.tBodies[0].rows.length > 8 && !document.getElementById("search")) {
    const field = element("input", { type: "search", placeholder: "filter rows", ariaLabel: `filter the rows of ${table.id}` });
    const count = element("span", { className: "count" });
    count.setAttribute("role", "status");
    field.addEventListener("input", () => {
      const rows = [...table.tBodies[0].rows];
      const kept = keepRows(rows, field.value);
      count.textContent = kept === rows.length ? "" : `${kept} of ${rows.length}`;
    });
    tools.append(field, count);
  }
  if (heads.length > 5 && table.tHead.rows.length === 1) {
    const list = element("details", { className: "columns" });
    list.append(element("summary", {}, "columns"));
    heads.forEach((head, column) => {
      if (column === 0) return;
      const label = element("label", {});
      const box = element("input", { type: "checkbox", checked: true });
      box.addEventListener("change", () => {
        [...table.rows].forEach((row) => { if (row.cells[column]) row.cells[column].hidden = !box.checked; });
      });
      label.append(box, ` ${head.textContent}`);
      list.append(label);
    });
    tools.append(list);
  }
  if (tools.children.length) (table.closest(".scroll") || table).before(tools);
});
// On a narrow screen a table that is wider than the screen becomes a list of its rows, each value beside its column's
// head. Without this script it is scrolled sideways.
const narrow = window.matchMedia("(max-width: 40rem)");
function listRows(table) {
  table.classList.remove("listed");
  const box = table.closest(".scroll");
  if (!narrow.matches || !box || box.scrollWidth <= box.clientWidth + 1) return;
  if (!table.dataset.headed) {
    const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
    const groups = table.tHead.rows.length > 1 ? [...table.tHead.rows[0].cells].slice(1).flatMap((group) => Array(group.colSpan).fill(group.textContent)) : null;
    if (groups) heads.unshift(null);  // the corner spans both lines
    [...table.tBodies[0].rows].forEach((row) => [...row.cells].forEach((cell, column) => {
      if (cell.tagName === "TD") cell.dataset.head = `${groups ? `${groups[column - 1]} ` : ""}${heads[column].textContent}`;
    }));
    table.dataset.headed = "yes";
  }
  table.classList.add("listed");
}
function listAll() {
  document.querySelectorAll(".scroll > table:not(.claims):not(.heat)").forEach(listRows);
}
narrow.addEventListener("change", listAll);
window.addEventListener("resize", listAll);
document.addEventListener("toggle", listAll, true);  // what was folded has no width
listAll();
const search = document.getElementById("search");
if (search) {
  search.hidden = false;
  search.addEventListener("input", () => {
    let kept = 0;
    document.querySelectorAll("main section").forEach((section) => {
      const rows = [...section.querySelectorAll("tbody tr")];
      if (!rows.length) return;
      const found = keepRows(rows, search.value);
      section.hidden = found === 0;
      kept += found;
    });
    document.getElementById("found").textContent = search.value ? `${kept} found` : "";
  });
}
// The table as text, copied where the browser lets a page, else shown for the reader to copy.
document.querySelectorAll("button.copy").forEach((button) => {
  button.hidden = false;
  const label = button.textContent;
  button.addEventListener("click", async () => {
    const text = document.getElementById(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(text.value);
      button.textContent = "copied";
      setTimeout(() => { button.textContent = label; }, 1500);
    } catch {
      text.hidden = false;
      text.select();
    }
  });
});
// Values under the pointer, or by the arrow keys: a drawing says where its axes lie, its lines are their own data.
const MOST_VALUES = 15;  // as many as a sweep's page has curves
function lineData(svg) {
  const chart = svg.closest(".chart");
  return [...svg.querySelectorAll(".line")].map((line) => {
    const look = /line-(\d+)/.exec(line.getAttribute("class"))[1];
    const paths = [...line.querySelectorAll("path")].filter((path) => getComputedStyle(path).fill === "none" && !path.closest("defs"));
    const key = chart && chart.querySelector(`.keys li[data-line="${look}"]`);
    if (!paths.length) return null;
    const points = [...paths[0].getAttribute("d").matchAll(/(-?[\d.]+(?:e-?\d+)?)[ ,]+(-?[\d.]+(?:e-?\d+)?)/g)].map((m) => [Number(m[1]), Number(m[2])]);
    return { look, label: key ? key.textContent.trim() : "", points };
  }).filter(Boolean);
}
function valueAt(points, x) {
  if (!points.length || x < points[0][0] - 0.5 || x > points[points.length - 1][0] + 0.5) return null;
  let after = points.findIndex((point) => point[0] >= x);
  if (after < 0) after = points.length - 1;
  const [x1, y1] = points[after];
  if (after === 0 || x1 === points[after - 1][0]) return y1;
  const [x0, y0] = points[after - 1];
  return y0 + (y1 - y0) * (x - x0) / (x1 - x0);
}
document.querySelectorAll("svg[data-frame]").forEach((svg) => {
  const [left, right, bottom, , low, high, floor, ceiling] = svg.dataset.frame.split(" ").map(Number);
  const top = Number(svg.dataset.frame.split(" ")[3]);
  const panel = svg.parentElement;
  const tip = element("div", { className: "tip", hidden: true });
  tip.setAttribute("role", "status");
  panel.append(tip);
  const marker = document.createElementNS(svg.namespaceURI, "path");
  marker.setAttribute("class", "marker");
  let lines = null;
  let epoch = null;
  const show = (asked) => {
    lines = lines || lineData(svg);
    epoch = Math.min(Math.floor(high), Math.max(Math.ceil(low), Math.round(asked)));
    const x = left + (right - left) * (epoch - low) / (high - low);
    const shown = lines.map((line) => ({ ...line, y: valueAt(line.points, x) })).filter((line) => line.y !== null);
    const value = (y) => floor + (ceiling - floor) * (y - bottom) / (top - bottom);
    shown.sort((a, b) => a.y - b.y);
    const chart = svg.closest(".chart");
    const picked = chart && chart.classList.contains("picking") ? [...chart.querySelectorAll(".keys .picked")].map((key) => key.dataset.line) : null;
    const rows = shown.filter((line) => !picked || picked.includes(line.look));
    if (!rows.length) { hide(); return; }
    tip.replaceChildren(element("strong", {}, `epoch ${epoch}`));
    rows.slice(0, MOST_VALUES).forEach((line) => tip.append(element("div", {}, `${Number(value(line.y).toPrecision(4))}  ${line.label}`)));
    if (rows.length > MOST_VALUES) tip.append(element("div", {}, `and ${rows.length - MOST_VALUES} more`));
    tip.hidden = false;
    tip.style.left = x - left > (right - left) / 2 ? "3.5rem" : "auto";
    tip.style.right = x - left > (right - left) / 2 ? "auto" : "0.5rem";
    marker.setAttribute("d", `M${x} ${top}V${bottom}`);
    svg.append(marker);
  };
  const hide = () => { tip.hidden = true; marker.remove(); epoch = null; };
  svg.tabIndex = 0;
  svg.addEventListener("pointermove", (event) => {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    show(low + (high - low) * (at.x - left) / (right - left));
  });
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("blur", hide);
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step) { event.preventDefault(); show(epoch === null ? (step > 0 ? low : high) : epoch + step); }
    if (event.key === "Escape") hide();
  });
});
// A click on a legend's entry picks its lines out, a second one lets go; under the pointer it is picked for as long.
document.querySelectorAll(".chart .keys li").forEach((item) => {
  // The entry's content becomes a button, so that the list stays a list.
  const key = element("button", { type: "button", className: "key" });
  key.append(...item.childNodes);
  key.dataset.line = item.dataset.line;
  key.setAttribute("aria-pressed", "false");
  item.append(key);
  const chart = key.closest(".chart");
  const pick = () => {
    item.classList.toggle("picked");
    key.setAttribute("aria-pressed", String(item.classList.contains("picked")));
    chart.querySelectorAll(`.line-${key.dataset.line}`).forEach((line) => line.classList.toggle("picked"));
    chart.classList.toggle("picking", chart.querySelector(".keys .picked") !== null);
  };
  const emphasise = (on) => {
    chart.classList.toggle("hovering", on);
    chart.querySelectorAll(`.line-${key.dataset.line}`).forEach((line) => line.classList.toggle("hovered", on));
  };
  key.addEventListener("pointerenter", () => emphasise(true));
  key.addEventListener("pointerleave", () => emphasise(false));
  key.addEventListener("click", pick);
});
