// Everything about one record, when somebody asks for it: a link to #record-7 opens it.
const all = () => once("records", async (name) => JSON.parse(await unpack(name)));
const dialog = document.querySelector("dialog.one");

const make = (tag, content = [], known = {}) => {
  const element = Object.assign(document.createElement(tag), known);
  element.append(...[content].flat());
  return element;
};
const tableOf = (head, rows, name) => {
  const cells = ([first, ...rest]) => [
    make("th", first, { scope: "row" }), ...rest.map((text) => make("td", text)),
  ];
  const table = make("table", make("tbody", rows.map((row) => make("tr", cells(row)))));
  const columns = head.map((text) => make("th", text, { scope: "col" }));
  if (head.length) table.prepend(make("thead", make("tr", columns)));
  const scroll = make("div", table, { className: "scroll", tabIndex: 0, ariaLabel: name });
  scroll.setAttribute("role", "region");
  return scroll;
};

const show = async (number) => {
  const { records, environments } = await all();
  const one = records[number];
  const inside = dialog.querySelector(".everything");
  dialog.querySelector("h2").textContent = `Record ${number}`;
  inside.replaceChildren();
  if (!one) {
    inside.append(make("p", "This page holds no such record."));
  } else {
    const tag = make("span", `${one.mark} ${one.status}`, { className: `tag ${one.group}` });
    inside.append(make("p", [tag, ` ${one.said.suite} · ${one.said.implementation}`]));
    if (one.command) inside.append(make("code", one.command, { className: "command" }));
    if (one.measured.length) {
      inside.append(tableOf(["Measured", "Value", "95 % interval"], one.measured, "Measured"));
      inside.lastChild.classList.add("measured");
    }
    inside.append(tableOf([], Object.entries(one.said), "What it is"));
    if (one.detail) {
      inside.append(make("details", [make("summary", "Detail"), make("pre", one.detail)]));
    }
    const facts = tableOf([], environments[one.run], "Environment");
    inside.append(make("details", [make("summary", "Environment"), facts]));
  }
  if (!dialog.open) dialog.showModal();
  for (const { name, unit, values } of one?.samples ?? []) {
    const title = `${values.length} samples of ${name}, in the order taken`;
    const place = make("div", [], { className: "drawing" });
    inside.append(make("figure", [make("figcaption", title), place]));
    const rows = values.map((value, at) => ({ x: at + 1, y: value }));
    const target = place.appendChild(make("div"));
    await draw(target, (held) => ({ ...held.samples[unit], datasets: { samples: rows } }), title);
  }
  dialog.dataset.shown = number;
};

if (dialog && "DecompressionStream" in window) {
  const follow = () => {
    const [, number] = location.hash.match(/^#record-(\d{1,9})$/) ?? [];
    if (number) show(number).catch(console.warn);
  };
  window.addEventListener("hashchange", follow);
  dialog.addEventListener("close", () => {
    delete dialog.dataset.shown;
    history.replaceState(null, "", location.pathname + location.search);
  });
  for (const place of document.querySelectorAll("[data-record]")) {
    const link = make("a", [], { href: `#record-${place.dataset.record}`, className: "record" });
    if (place.tagName === "LI") place.append(" ", link), link.append("everything about it");
    else link.append(...place.childNodes), place.append(link);
  }
  const form = document.querySelector("form.find");
  const found = document.querySelector("ul.found");
  const find = async () => {
    const words = form.elements.words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const matching = !words.length ? [] : Object.entries((await all()).records).filter(([, one]) => {
      const text = `${one.status} ${Object.values(one.said).join(" ")}`.toLowerCase();
      return words.every((word) => text.includes(word));
    });
    found.replaceChildren(...matching.slice(0, 30).map(([number, { said, status, measured }]) => {
      const [name, value] = measured[0] ?? [];
      const text = `${said.suite} · ${said.implementation} · ${said.operator}`;
      const link = make("a", text, { href: `#record-${number}` });
      return make("li", [link, ` ${status}${name ? `, ${name} ${value}` : ""}`]);
    }));
    form.querySelector("output").textContent = !words.length ? ""
      : `${matching.length} found${matching.length > 30 ? ", the first 30:" : ""}`;
  };
  if (form) {
    form.hidden = false;
    form.addEventListener("submit", (event) => event.preventDefault());
    form.elements.words.addEventListener("input", () => find().catch(console.warn));
  }
  follow();
}
