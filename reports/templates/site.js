"use strict";
// The pages read without this. It chooses among the boards, and among the records of a page.
(() => {
  const form = document.querySelector("form.choose");
  const boards = [...document.querySelectorAll(".board")];
  const choose = () => {
    const wanted = [...form.querySelectorAll("select")];
    for (const board of boards) {
      board.hidden = !wanted.every(({ name, value }) => !value || board.dataset[name] === value);
    }
    const shown = boards.filter((board) => !board.hidden).length;
    form.querySelector("output").textContent = `${shown} of ${boards.length} tables`;
  };
  if (form) {
    form.hidden = false;
    form.addEventListener("change", choose);
    choose();
  }

  for (const table of document.querySelectorAll("table.filtered")) {
    const filter = document.createElement("input");
    filter.type = "search";
    filter.className = "filter";
    filter.placeholder = "Show records that contain …";
    filter.setAttribute("aria-label", "Show only records of this page that contain this text");
    filter.addEventListener("input", () => {
      const words = filter.value.toLowerCase().split(/\s+/);
      for (const row of table.tBodies[0].rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
      }
    });
    table.parentElement.before(filter);
  }
  document.documentElement.dataset.ready = String(Math.round(performance.now()));
})();
