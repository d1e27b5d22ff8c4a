// Conveniences only: values under the pointer, sortable tables, folds opened for print.
"use strict";

const format = (value, percent) =>
  value === null ? "–" : percent ? (100 * value).toFixed(1) + "\u202f%" : String(+value.toPrecision(4));

function make(tag, text, parent) {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (parent) parent.append(node);
  return node;
}

/** Calls `show(x, y, tip)` with the pointer's place in the drawing; it returns whether to show the tip. */
function follow(figure, show, hide) {
  const svg = figure.querySelector("svg");
  const tip = make("div", undefined, figure);
  tip.className = "tip";
  tip.hidden = true;
  const leave = () => { tip.hidden = true; hide(); };
  svg.addEventListener("pointerleave", leave);
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect(), size = svg.viewBox.baseVal;
    const x = (event.clientX - box.left) / box.width * size.width;
    const y = (event.clientY - box.top) / box.height * size.height;
    tip.replaceChildren();
    if (!show(x, y, tip)) return leave();
    tip.hidden = false;
    const outer = figure.getBoundingClientRect();
    const left = event.clientX - outer.left, top = event.clientY - outer.top;
    const room = outer.width - tip.offsetWidth - 6;
    tip.style.left = Math.max(6, left + 16 > room ? left - tip.offsetWidth - 16 : left + 16) + "px";
    tip.style.top = Math.max(6, top - tip.offsetHeight - 12) + "px";
  });
}

for (const figure of document.querySelectorAll("figure[data-plot]")) {
  const plot = JSON.parse(figure.dataset.plot), [left, top, right, bottom] = plot.box;
  const rule = document.createElementNS("http://www.w3.org/2000/svg", "line");
  rule.setAttribute("y1", top);
  rule.setAttribute("y2", bottom);
  rule.style.cssText = "stroke: var(--muted); stroke-width: 1; visibility: hidden; pointer-events: none";
  figure.querySelector("svg").append(rule);
  follow(figure, (x, y, tip) => {
    if (x < left - 4 || x > right + 4 || y < top || y > bottom) return false;
    const at = plot.x[0] + (x - left) / (right - left) * (plot.x[1] - plot.x[0]);
    let nearest = null;
    for (const line of plot.series)
      for (const value of line.x)
        if (nearest === null || Math.abs(value - at) < Math.abs(nearest - at)) nearest = value;
    if (nearest === null) return false;
    make("div", plot.xLabel + " " + Math.round(nearest).toLocaleString("en"), tip);
    for (const line of plot.series) {
      let best = 0;
      line.x.forEach((value, i) => { if (Math.abs(value - nearest) < Math.abs(line.x[best] - nearest)) best = i; });
      const row = make("div", undefined, tip);
      make("i", undefined, row).style.background = line.colour;
      row.append(line.label + " " + format(line.y[best], plot.percent));
    }
    const place = left + (nearest - plot.x[0]) / (plot.x[1] - plot.x[0]) * (right - left);
    rule.setAttribute("x1", place);
    rule.setAttribute("x2", place);
    rule.style.visibility = "visible";
    return true;
  }, () => { rule.style.visibility = "hidden"; });
}

for (const figure of document.querySelectorAll("figure[data-heat]")) {
  const heat = JSON.parse(figure.dataset.heat), [left, top, right, bottom] = heat.box;
  const rows = heat.values.length, columns = heat.values[0].length;
  follow(figure, (x, y, tip) => {
    if (x < left || x >= right || y < top || y >= bottom) return false;
    const i = Math.floor((y - top) / (bottom - top) * rows);
    const j = Math.floor((x - left) / (right - left) * columns);
    make("b", format(heat.values[i][j], heat.percent), tip);
    make("div", heat.rows + ": " + (heat.rowNames[i] ?? i + 1), tip);
    make("div", heat.columns + ": " + (heat.columnNames[j] ?? j + 1), tip);
    return true;
  }, () => {});
}

for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0];
  if (body.rows.length < 3) continue;
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = make("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = (row) => row.cells[column].dataset.sort ?? row.cells[column].textContent;
      const order = (a, b) => key(a).localeCompare(key(b), "en", { numeric: true });
      const number = (row) => (row.cells[column].dataset.sort === undefined ? NaN : +row.cells[column].dataset.sort);
      const compare = (a, b) => (isNaN(number(a)) || isNaN(number(b)) ? order(a, b) : number(a) - number(b));
      body.append(...[...body.rows].sort((a, b) => (down ? compare(b, a) : compare(a, b))));
    });
  });
}

addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((fold) => { fold.open = true; }));
