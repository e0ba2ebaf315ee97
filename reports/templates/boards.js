// Choosing among the leaderboards of a site.
const choice = document.querySelector("form.choose");
const boards = [...document.querySelectorAll(".board")];
const choose = () => {
  const wanted = [...choice.querySelectorAll("select")];
  for (const board of boards) {
    board.hidden = !wanted.every(({ name, value }) => !value || board.dataset[name] === value);
  }
  const shown = boards.filter((board) => !board.hidden).length;
  choice.querySelector("output").textContent = `${shown} of ${boards.length} tables`;
};
if (choice) {
  choice.hidden = false;
  choice.addEventListener("change", choose);
  choose();
}
