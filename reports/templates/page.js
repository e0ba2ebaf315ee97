// In a report libraries stand in the page.
const library = (name) => once(name, async () => (0, eval)(await unpack(name)));
