// Whatever can be more than it is becomes so shortly before it comes into view.
if ("IntersectionObserver" in window && "DecompressionStream" in window) {
  const watch = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      watch.unobserve(target);
      if (target.matches("figure")) upgrade(target);
      else dress(target);
    }
  }, { rootMargin: "300px" });
  const more = document.querySelectorAll("figure[data-chart], table.sortable");
  more.forEach((one) => watch.observe(one));
}
document.documentElement.dataset.ready = String(Math.round(performance.now()));
