// Tables are sorted, filtered, copied and saved by DataTables when they come into view.
const MOST_ROWS = 500;
const numberOf = (text) => {
  const number = parseFloat(text.replaceAll(",", ""));
  return Number.isFinite(number) ? number : "Infinity"; // what is not there comes last
};

const bare = { title: null, messageTop: null, messageBottom: null, footer: false };

const dress = async (table) => {
  // The library asks the first row how a column is sorted, so every number says its own.
  for (const cell of table.querySelectorAll("tbody td.number")) {
    if (!cell.dataset.order) cell.dataset.order = numberOf(cell.textContent);
  }
  const exported = {
    columns: ":visible",
    orthogonal: "sort",
    format: {
      header: (text, place, header) =>
        header.textContent.trim() + (header.dataset.unit ? ` (${header.dataset.unit})` : ""),
      body: (value, row, column, cell) => {
        const { order, exact } = cell.dataset;
        if (exact !== undefined) return exact;
        if (order === "Infinity") return "";
        return order ?? cell.textContent.replace(/\s+/g, " ").trim();
      },
    },
  };
  try {
    await library("tables");
    DataTable.ext.errMode = "throw";
    const rows = table.tBodies[0].rows.length;
    const made = new DataTable(table, {
      autoWidth: false,
      columnDefs: [{ targets: "number", type: "num" }],
      info: false,
      language: { search: "", searchPlaceholder: "Show rows that contain …" },
      layout: {
        topStart: rows > 8 ? "search" : null,
        topEnd: {
          buttons: [
            { extend: "copyHtml5", text: "Copy", ...bare, exportOptions: exported },
            {
              extend: "csvHtml5",
              text: "CSV",
              ...bare,
              filename: `fwpbench-${table.closest("section").id}`,
              escapeExcelFormula: true,
              exportOptions: exported,
            },
          ],
        },
        bottomStart: null,
        bottomEnd: rows > MOST_ROWS ? "paging" : null,
      },
      order: [],
      orderClasses: false,
      pageLength: MOST_ROWS,
      paging: rows > MOST_ROWS,
    });
    // The controls stay where they are while the table scrolls.
    const container = made.table().container();
    const bar = container.querySelector(".dt-layout-row");
    bar.classList.add("controls");
    const search = bar.querySelector("input");
    if (search) search.ariaLabel = "Show only rows that contain this text";
    table.closest(".scroll").before(bar);
    table.dataset.live = "yes";
  } catch (error) {
    console.warn(error);
  }
};
