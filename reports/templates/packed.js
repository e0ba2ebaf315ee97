// What a page needs only when somebody looks at it, by name. It stands in the page, compressed.
const unpack = async (name) => {
  const text = atob(document.getElementById(`packed-${name}`).textContent);
  const bytes = Uint8Array.from(text, (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
};
const kept = {};
const once = (name, make) => (kept[name] ??= make(name));
