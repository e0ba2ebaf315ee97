// Charts become interactive when they come into view. The drawing that stands there stays until then.
const specs = () => once("specs", async (name) => JSON.parse(await unpack(name)));

// Scaled down, a chart's words are too small to read: on a narrow screen it is drawn anew.
const narrowed = (spec, room) => {
  if (!(room > 0 && room < spec.width)) return spec;
  const text = JSON.stringify({ ...spec, width: Math.max(room, 260) });
  return JSON.parse(text, (name, value) =>
    name === "minExtent" ? Math.min(value, 0.4 * room) : value);
};

const draw = async (target, choose, name) => {
  const [held] = await Promise.all([specs(), library("charts")]);
  const place = target.parentElement;
  const room = place.clientWidth - parseFloat(getComputedStyle(place).paddingRight);
  const spec = narrowed(choose(held), room);
  const axis = { ...held.config.axis, labelLimit: Math.min(260, 0.45 * (spec.width ?? 600)) };
  const config = { ...held.config, axis };
  const { view } = await vegaEmbed(target, spec, { config, renderer: "svg", actions: false });
  await view.runAsync();
  const chart = target.querySelector("svg");
  for (const one of chart.querySelectorAll("[role]")) one.removeAttribute("role");
  chart.setAttribute("role", "img");
  chart.setAttribute("aria-label", name);
};

const upgrade = async (figure) => {
  const place = figure.querySelector(".drawing");
  const drawing = place.querySelector(":scope > svg");
  const target = document.createElement("div");
  target.hidden = true;
  place.append(target);
  try {
    const name = drawing.getAttribute("aria-label");
    await draw(target, ({ charts }) => charts[figure.dataset.chart], name);
    drawing.remove();
    target.hidden = false;
    figure.dataset.live = "yes";
  } catch (error) {
    target.remove();
    console.warn(error);
  }
};
