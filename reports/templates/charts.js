// Charts become interactive when they come into view. The drawing that stands there stays until then.
const specs = () => once("specs", async (name) => JSON.parse(await unpack(name)));

const draw = async (target, choose, name) => {
  const [held] = await Promise.all([specs(), library("charts")]);
  const { config } = held;
  const spec = choose(held);
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
