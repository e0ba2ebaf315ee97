"use strict";
// The page reads without this. It makes charts interactive when they come into view, and tables
// sortable and filterable.
(() => {
  const { config, specs } = JSON.parse(document.getElementById("charts").textContent);

  const upgrade = async (figure) => {
    const place = figure.querySelector(".drawing");
    const target = document.createElement("div");
    target.hidden = true;
    place.append(target);
    try {
      const options = { config, renderer: "svg", actions: false };
      const { view } = await vegaEmbed(target, specs[figure.dataset.chart], options);
      await view.runAsync();
      const drawing = place.querySelector(":scope > svg");
      const chart = target.querySelector("svg");
      for (const one of chart.querySelectorAll("[role]")) one.removeAttribute("role");
      chart.setAttribute("role", "img");
      chart.setAttribute("aria-label", drawing.getAttribute("aria-label"));
      drawing.remove();
      target.hidden = false;
      figure.dataset.live = "yes";
    } catch (error) {
      target.remove(); // the drawing that stands there stays
      console.warn(error);
    }
  };

  if (typeof vegaEmbed === "function" && "IntersectionObserver" in window) {
    const watch = new IntersectionObserver((entries) => {
      for (const { isIntersecting, target } of entries) {
        if (isIntersecting) {
          watch.unobserve(target);
          upgrade(target);
        }
      }
    }, { rootMargin: "300px" });
    document.querySelectorAll("figure[data-chart]").forEach((figure) => watch.observe(figure));
  }

  const valueOf = (row, column) => {
    const cell = row.cells[column];
    const text = cell.dataset.value ?? cell.textContent.trim();
    return text !== "" && Number.isFinite(Number(text)) ? Number(text) : text;
  };
  const compare = (one, other) => {
    if (typeof one === "number" && typeof other === "number") return one - other;
    if (typeof one !== typeof other) return typeof one === "number" ? -1 : 1;
    return one.localeCompare(other, undefined, { numeric: true });
  };

  const sort = (table, header) => {
    const upwards = header.getAttribute("aria-sort") !== "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", upwards ? "ascending" : "descending");
    const rows = [...table.tBodies[0].rows].map((row) => [valueOf(row, header.cellIndex), row]);
    rows.sort(([one], [other]) => (upwards ? compare(one, other) : compare(other, one)));
    table.tBodies[0].append(...rows.map(([, row]) => row));
  };

  for (const table of document.querySelectorAll("table.sortable")) {
    for (const header of table.tHead.rows[0].cells) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...header.childNodes);
      button.addEventListener("click", () => sort(table, header));
      header.append(button);
    }
    if (table.tBodies[0].rows.length > 8) {
      const filter = document.createElement("input");
      filter.type = "search";
      filter.className = "filter";
      filter.placeholder = "Show rows that contain …";
      filter.setAttribute("aria-label", "Show only rows that contain this text");
      filter.addEventListener("input", () => {
        const words = filter.value.toLowerCase().split(/\s+/);
        for (const row of table.tBodies[0].rows) {
          const text = row.textContent.toLowerCase();
          row.hidden = !words.every((word) => text.includes(word));
        }
      });
      table.parentElement.before(filter);
    }
  }
  document.documentElement.dataset.ready = String(Math.round(performance.now()));
})();
