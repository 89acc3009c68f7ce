"use strict";
(() => {
  const token = new URLSearchParams(location.search).get("token");
  const $ = (id) => document.getElementById(id);
  const frame = $("report");
  // The report draws its charts anew, which takes the time of a search on the same machine.
  const PAUSE = 10_000;
  let before = "";
  let loaded = -PAUSE;

  async function look() {
    let found = null;
    try {
      const answer = await fetch("/api/state", { method: "POST", headers: { "X-Bcgraph-Token": token }, body: "null" });
      found = await answer.json();
      $("error").hidden = answer.ok;
      $("error").textContent = found.error ?? "";
      if (!answer.ok) found = null;
    } catch {
      $("error").textContent = "the server has ended";
      $("error").hidden = false;
    }
    if (found) {
      const best = found.best === null ? "" : `; best ${found.best.map((c) => c.join("\u2192")).join(", ") || "none"}`;
      const value = found.accuracy === null ? "" : ` (${found.accuracy.toPrecision(4)})`;
      document.title = $("name").textContent = `Search of ${found.spec}`;
      $("state").textContent =
        `${found.scored} scored, ${found.evaluated} evaluated${best}${value}; ${found.finished ? "finished" : "running"}`;
      const now = JSON.stringify(found);
      if (now !== before && (found.finished || performance.now() - loaded >= PAUSE)) {
        before = now;
        loaded = performance.now();
        reload();
      }
      if (found.finished) return;
    }
    setTimeout(look, 1000);
  }
  // The report comes anew; a reader stays at the place and the port that was chosen.
  function reload() {
    const inside = frame.contentWindow;
    const place = inside?.scrollY ?? 0;
    const port = frame.contentDocument?.getElementById("port")?.value ?? "";
    frame.addEventListener("load", () => {
      const choice = frame.contentDocument?.getElementById("port");
      if (choice && port) {
        choice.value = port;
        choice.dispatchEvent(new Event("change"));
      }
      frame.contentWindow.scrollTo(0, place);
    }, { once: true });
    frame.src = `/report?token=${encodeURIComponent(token)}`;
  }
  look();
})();
