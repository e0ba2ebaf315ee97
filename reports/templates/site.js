// In a site libraries are files beside the pages.
const root = document.documentElement.dataset.root;
const library = (name) => once(name, () => new Promise((resolve, reject) => {
  const source = `${root}assets/${name}.js`;
  document.head.append(Object.assign(document.createElement("script"), {
    src: source,
    onload: resolve,
    onerror: () => reject(new Error(`${source} was not found`)),
  }));
}));
