// A heading sorts its table: numbers largest first, then smallest first; names from A to Z, then
// from Z to A; then as printed. Rows without a number stay last.
function sortRows(button) {
  const table = button.closest("table"), body = table.tBodies[0], place = Number(button.dataset.place);
  body.printed ??= [...body.rows];
  const named = place === 0;
  const orders = named ? ["ascending", "descending"] : ["descending", "ascending"];
  const heading = button.closest("th"), before = heading.getAttribute("aria-sort");
  const next = before === null ? orders[0] : before === orders[0] ? orders[1] : null;
  for (const one of table.querySelectorAll("th[aria-sort]")) one.removeAttribute("aria-sort");
  if (next) heading.setAttribute("aria-sort", next);
  const sign = next === "descending" ? -1 : 1;
  const name = (row) => row.cells[place].textContent.trim();
  const value = (row) => row.cells[place].dataset.value;
  const compare = (a, b) => {
    if (named) return sign * name(a).localeCompare(name(b), "en", { numeric: true });
    if (value(a) === "" || value(b) === "") return (value(a) === "") - (value(b) === "");
    return sign * (value(a) - value(b));
  };
  body.append(...(next ? [...body.printed].sort(compare) : body.printed));
  document.getElementById("spoken").textContent =
    next ? `sorted by ${button.textContent.trim()}, ${next}` : "in the printed order";
}
for (const button of document.querySelectorAll("button.sort")) {
  button.addEventListener("click", () => sortRows(button));
}
