// The report works without this; it adds names on hover, sorting, a filter by port, and the architecture of a point.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("report-data").textContent);
  const SVG = "http://www.w3.org/2000/svg";
  const COLORS = data.colors;
  const marks = [...document.querySelectorAll("[data-at]")];
  const points = marks.filter((mark) => mark.tagName === "use");

  const make = (tag, attributes = {}, ...children) => {
    const svg = ["svg", "path", "rect", "text", "title", "g"].includes(tag);
    const node = svg ? document.createElementNS(SVG, tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children);
    return node;
  };
  const shown = (value) => Number(value.toPrecision(5)).toString();
  const one = ([source, target, note]) =>
    `${data.ports[source]}\u00a0\u2192\u00a0${data.ports[target]}${note ? ` (${note})` : ""}`;
  const name = (at) => data.evaluations[at].connections.map(one).join(", ") || "none";
  const values = (at) =>
    data.measures
      .filter(({ key }) => key in data.evaluations[at].values)
      .map(({ key, label }) => {
        const value = data.evaluations[at].values[key];
        return `${label} ${typeof value === "number" ? shown(value) : value}`;
      });
  const label = (at) => [name(at), ...values(at)].join("; ");

  // --- Names on hover and focus
  const tip = make("div", { id: "tip", role: "status", hidden: "" });
  document.body.append(tip);
  const tell = (mark) => {
    const box = mark.getBoundingClientRect();
    tip.textContent = label(Number(mark.dataset.at));
    tip.hidden = false;
    tip.style.left = `${Math.min(scrollX + box.right + 8, scrollX + innerWidth - tip.offsetWidth - 8)}px`;
    tip.style.top = `${scrollY + box.top - tip.offsetHeight - 6}px`;
  };
  const hush = () => { tip.hidden = true; };

  // --- The architecture of a point
  const panel = make("section", { id: "chosen", "aria-live": "polite", "aria-label": "Architecture", hidden: "" });
  document.body.append(panel);
  let before = null;

  // Each connection has a track of its own and a slot at each port, so that none lies on another.
  function picture(connections) {
    const order = connections.map((c, index) => ({ c, index, length: Math.abs(c[0] - c[1]) }));
    order.sort((a, b) => a.length - b.length);
    const ends = data.ports.map(() => []);
    for (const { c, index, length } of order) {
      for (const [end, port, other] of [[0, c[0], c[1]], [1, c[1], c[0]]]) {
        const side = other < port ? -1 : other > port ? 1 : 0;
        ends[port].push({ index, end, key: [side, side === 0 ? (end ? -index : index) - (end ? 1e6 : 0) : -side * length] });
      }
    }
    const at = new Map();
    let x = 14;
    const boxes = data.ports.map((title, port) => {
      ends[port].sort((a, b) => a.key[0] - b.key[0] || a.key[1] - b.key[1]);
      const width = Math.max(20, 9 * ends[port].length + 6);
      ends[port].forEach((each, slot) => {
        at.set(`${each.index} ${each.end}`, x + width / 2 + 9 * (slot - (ends[port].length - 1) / 2));
      });
      const box = { title: `@${port} ${title}`, port, x, width };
      x += width + 8;
      return box;
    });
    const above = order.filter(({ c }) => c[0] >= c[1]).length;
    const top = 10 + 9 * above, bottom = top + 22;
    const height = bottom + 10 + 9 * (order.length - above);
    const svg = make("svg", { viewBox: `0 0 ${x + 6} ${height}`, width: x + 6, role: "img" });
    svg.append(make("title", {}, connections.map(one).join(", ") || "no connections"));
    svg.append(make("path", { d: `M4 ${top + 11}H${x + 2}`, stroke: "var(--faint)", fill: "none" }));
    let up = 0, down = 0;
    for (const { c, index } of order) {
      const high = c[0] >= c[1] ? top - 6 - 9 * up++ : bottom + 6 + 9 * down++;
      const edge = c[0] >= c[1] ? top : bottom;
      const [from, to] = [at.get(`${index} 0`), at.get(`${index} 1`)];
      const tip = Math.sign(high - edge) * 5;
      const d = `M${from} ${edge}V${high}H${to}V${edge}M${to - 3} ${edge + tip}L${to} ${edge}L${to + 3} ${edge + tip}`;
      const arc = make("path", { d, fill: "none", stroke: COLORS[index % COLORS.length], "stroke-width": 1.8 });
      arc.append(make("title", {}, one(c)));
      svg.append(arc);
    }
    const used = new Set(connections.flatMap((c) => [c[0], c[1]]));
    for (const { title, port, x: left, width } of boxes) {
      const strong = used.has(port);
      const fill = strong ? "var(--ink)" : "var(--paper)";
      const box = make("rect", { x: left, y: top, width, height: 22, rx: 3, fill, stroke: "var(--ink)" });
      box.append(make("title", {}, title));
      const color = strong ? "var(--paper)" : "var(--ink)";
      const place = { x: left + width / 2, y: top + 14.5, "text-anchor": "middle", "font-size": 9.5, fill: color };
      svg.append(box, make("text", { ...place, "pointer-events": "none" }, String(port)));
    }
    return svg;
  }

  function select(at, from) {
    const entry = data.evaluations[at];
    for (const mark of marks) mark.classList.toggle("selected", Number(mark.dataset.at) === at);
    const close = make("button", { class: "close", type: "button", "aria-label": "close" }, "\u00d7");
    close.addEventListener("click", dismiss);
    const lines = entry.connections.map((c, index) => {
      const color = COLORS[index % COLORS.length];
      const text = `@${c[0]} \u2192 @${c[1]}: ${one(c)}`;
      return make("li", { style: `color: ${color}` }, make("span", { style: "color: var(--ink)" }, text));
    });
    const facts = [...values(at), `${entry.stage} ${entry.iteration}, ${entry.origin}`];
    panel.replaceChildren(
      make("h3", {}, name(at)), close, picture(entry.connections), make("ul", {}, ...lines), make("div", {}, facts.join("; "))
    );
    panel.hidden = false;
    before = from;
  }
  function dismiss() {
    panel.hidden = true;
    for (const mark of marks) mark.classList.remove("selected");
    before?.focus();
  }

  for (const mark of marks) {
    const point = mark.tagName === "use";
    mark.setAttribute("tabindex", point ? -1 : 0);
    mark.setAttribute("role", "button");
    mark.setAttribute("aria-label", label(Number(mark.dataset.at)));
    mark.addEventListener("mouseenter", () => tell(mark));
    mark.addEventListener("mouseleave", hush);
    mark.addEventListener("focus", () => tell(mark));
    mark.addEventListener("blur", hush);
    mark.addEventListener("click", () => select(Number(mark.dataset.at), mark));
    mark.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        select(Number(mark.dataset.at), mark);
      }
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (point && step) {
        event.preventDefault();
        const open = points.filter((p) => p.closest("figure") === mark.closest("figure") && !p.matches(".aside"));
        const next = open[(open.indexOf(mark) + step + open.length) % open.length];
        next?.focus();
      }
    });
  }
  // Tab stops once at each figure; arrows go from point to point.
  for (const figure of new Set(points.map((p) => p.closest("figure")))) {
    figure.querySelector("use[data-at]").setAttribute("tabindex", 0);
  }
  addEventListener("keydown", (event) => { if (event.key === "Escape" && !panel.hidden) dismiss(); });

  // --- Sorting
  for (const table of document.querySelectorAll("table.sortable")) {
    const body = table.tBodies[0];
    [...table.tHead.rows[0].cells].forEach((cell, column) => {
      const button = make("button", { type: "button" }, ...cell.childNodes);
      cell.replaceChildren(button);
      button.addEventListener("click", () => {
        const down = cell.getAttribute("aria-sort") === "ascending";
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        cell.setAttribute("aria-sort", down ? "descending" : "ascending");
        const numbers = cell.classList.contains("number");
        const value = (row) => row.cells[column].textContent.trim();
        const rank = (row) => {
          const number = Number.parseFloat(value(row));
          return Number.isNaN(number) ? -Infinity : number;
        };
        const rows = [...body.rows];
        rows.sort((a, b) => (numbers ? rank(a) - rank(b) || 0 : value(a).localeCompare(value(b), "en", { numeric: true })));
        if (down) rows.reverse();
        body.append(...rows);
      });
    });
  }

  // --- All rows, and those of one port
  const controls = document.getElementById("controls");
  const choice = make("select", { id: "port" }, make("option", { value: "" }, "any port"));
  data.ports.forEach((title, port) => choice.append(make("option", { value: port }, `@${port} ${title}`)));
  const count = make("span", { id: "count", role: "status" });
  const all = document.getElementById("all");
  let open = false;
  function filter() {
    const port = choice.value === "" ? null : Number(choice.value);
    const has = (at) => port === null || data.evaluations[at].connections.some((c) => c[0] === port || c[1] === port);
    for (const mark of marks) {
      const kept = has(Number(mark.dataset.at));
      if (mark.tagName === "use") mark.classList.toggle("aside", !kept);
      const row = mark.closest("tr");
      if (row) row.hidden = !kept || (row.classList.contains("more") && !open && port === null);
    }
    const kept = data.evaluations.filter((_, at) => has(at)).length;
    count.textContent = ` ${kept} of ${data.evaluations.length} architectures`;
  }
  choice.addEventListener("change", filter);
  all?.addEventListener("click", () => {
    open = !open;
    all.setAttribute("aria-expanded", open);
    filter();
  });
  if (all) all.hidden = false;
  controls.append(make("label", { for: "port" }, "Architectures with a connection at "), choice, count);
  controls.hidden = false;
  filter();
})();
