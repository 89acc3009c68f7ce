"use strict";
(() => {
  const token = new URLSearchParams(location.search).get("token");
  const $ = (id) => document.getElementById(id);
  const make = (tag, attributes = {}, ...children) => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children);
    return node;
  };
  const LABELS = { parameters: "parameters", operations: "multiply-accumulates a step", state_values: "state values",
    energy: "energy, nJ a sample" };
  let shown = null;      // what the server said last
  let on = [];           // the places of the connections that are on
  let off = [];          // entries of those that were switched off
  let from = null;       // the port that was chosen first
  let asked = 0;

  async function call(name, given) {
    const answer = await fetch(`/api/${name}`, {
      method: "POST", headers: { "X-Bcgraph-Token": token }, body: JSON.stringify(given ?? null),
    });
    const found = await answer.json();
    if (!answer.ok) throw new Error(found.error);
    return found;
  }
  async function ask(name, given, message) {
    const number = ++asked;
    $("status").textContent = message;
    try {
      const found = await call(name, given);
      if (number !== asked) return null;
      $("error").hidden = true;
      $("status").textContent = "";
      draw(found);
      return found;
    } catch (error) {
      $("error").textContent = error.message;
      $("error").hidden = false;
      $("status").textContent = "";
      // What is shown is what the server said last.
      if (shown) on = shown.connections.map((c) => c.place);
      return null;
    }
  }
  const same = (a, b) => a.join() === b.join();
  const update = () => ask("show", on, "");

  function toggle(place) {
    const entry = shown.connections.find((c) => same(c.place, place));
    if (on.some((p) => same(p, place))) {
      on = on.filter((p) => !same(p, place));
      off = [...off.filter((c) => !same(c.place, place)), entry];
    } else {
      on = [...on, place];
    }
    update();
  }
  function add(source, target, delay) {
    const word = source >= target ? "backward" : "forward";
    const place = [word, source, target, word === "backward" ? Math.max(1, delay) : delay];
    if (!on.some((p) => same(p, place))) {
      on = [...on, place];
      update();
    }
  }
  function choose(port) {
    if (from === null) {
      from = port;
      $("status").textContent = `from @${port}: choose the port it reaches, or Escape`;
    } else {
      const start = from;
      from = null;
      $("status").textContent = "";
      add(start, port, Number($("delay").value));
    }
    mark();
  }
  function mark() {
    for (const box of document.querySelectorAll("[data-port]")) box.classList.toggle("from", Number(box.dataset.port) === from);
  }

  // --- Hover
  const tip = make("div", { id: "tip", role: "status", hidden: "" });
  document.body.append(tip);
  const number = (value) => value.toLocaleString("en");
  function port(at) {
    const it = shown.ports[at];
    const lines = [`@${at} ${it.name}`, `${it.shape.join(" x ")}, ${it.neuron}`];
    if (it.layers.length) {
      lines.push(`${it.layers.join(", ")}: ${number(it.parameters)} parameters, ${number(it.operations)} multiply-accumulates`);
    }
    if (it.rates.length) lines.push(`firing rate by step: ${it.rates.map((r) => r.toFixed(3)).join(", ")}`);
    return lines.join("\n");
  }
  const costs = (c) =>
    `${c.text}\n${number(c.parameters)} parameters, ${number(c.operations)} multiply-accumulates, ${number(c.state_values)} state values`;
  function explain(node, text) {
    node.querySelector("title")?.remove();
    node.setAttribute("tabindex", 0);
    node.setAttribute("role", "button");
    node.setAttribute("aria-label", text);
    const tell = () => {
      const box = node.getBoundingClientRect();
      tip.textContent = text;
      tip.hidden = false;
      tip.style.left = `${Math.max(4, Math.min(scrollX + box.left, scrollX + innerWidth - tip.offsetWidth - 12))}px`;
      tip.style.top = `${scrollY + box.bottom + 6}px`;
    };
    node.addEventListener("mouseenter", tell);
    node.addEventListener("focus", tell);
    for (const end of ["mouseleave", "blur"]) node.addEventListener(end, () => { tip.hidden = true; });
  }
  function act(node, action) {
    node.addEventListener("click", action);
    node.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      action();
    });
  }

  // --- The page
  function draw(found) {
    const focused = document.activeElement?.dataset?.port;
    shown = found;
    on = found.connections.map((c) => c.place);
    off = off.filter((c) => !on.some((p) => same(p, c.place)));
    tip.hidden = true;
    document.title = $("name").textContent = found.name;
    $("picture").innerHTML = found.svg;
    $("save").hidden = !found.saved;
    for (const box of document.querySelectorAll("[data-port]")) {
      const at = Number(box.dataset.port);
      explain(box, port(at));
      act(box, () => choose(at));
      if (box.dataset.port === focused) box.focus();
    }
    for (const arc of document.querySelectorAll(".bcg-arc")) {
      const [word, ...numbers] = arc.dataset.place.split(" ");
      const place = [word, ...numbers.map(Number)];
      // A wider line takes the pointer.
      const wide = arc.querySelector("path").cloneNode();
      wide.setAttribute("stroke", "transparent");
      wide.setAttribute("style", "stroke-width: 9");
      arc.append(wide);
      explain(arc, `${costs(found.connections.find((c) => same(c.place, place)))}`);
      act(arc, () => toggle(place));
    }
    mark();
    const value = (name, of) => (name === "energy" ? (1e9 * of).toPrecision(4) : number(of));
    $("costs").tBodies[0].replaceChildren(...Object.entries(found.total).map(([name, now]) => {
      const before = found.file[name];
      const more = before === undefined ? "" : `${now >= before ? "+" : "\u2212"}${number(Math.abs(now - before))}`;
      const cells = [LABELS[name], value(name, now), before === undefined ? "" : value(name, before), more];
      return make("tr", { "data-cost": name }, ...cells.map((text) => make("td", {}, text)));
    }));
    const rows = [...found.connections.map((c) => [c, true]), ...off.map((c) => [c, false])];
    $("list").tBodies[0].replaceChildren(...rows.map(([c, active]) => {
      const box = make("input", { type: "checkbox", "aria-label": c.text });
      box.checked = active;
      box.addEventListener("change", () => toggle(c.place));
      const cells = [box, c.text, number(c.parameters), number(c.operations), number(c.state_values)];
      return make("tr", active ? {} : { class: "off" }, ...cells.map((cell) => make("td", {}, cell)));
    }));
    if (!$("source").options.length) {
      for (const select of [$("source"), $("target")]) {
        select.append(...found.ports.map((p, at) => make("option", { value: at }, `@${at} ${p.name}`)));
      }
      $("source").value = found.ports.length - 1;
    }
  }

  $("add").addEventListener("submit", (event) => {
    event.preventDefault();
    add(Number($("source").value), Number($("target").value), Number($("delay").value));
  });
  $("save").addEventListener("click", async () => {
    if (await ask("save", on, "saving")) $("status").textContent = "saved";
  });
  $("reset").addEventListener("click", () => { off = []; ask("open", null, ""); });
  $("measure").addEventListener("click", () => ask("measure", on, "measuring the firing rates on test data"));
  addEventListener("keydown", (event) => {
    if (event.key === "Escape" && from !== null) {
      from = null;
      $("status").textContent = "";
      mark();
    }
  });
  ask("open", null, "");
})();
