{% include "sorting.js" %}

// A number opens its provenance, which lies in the page below its table, in a dialog; so does an
// address that ends in its name.
const dialog = document.getElementById("origin");
const details = JSON.parse(document.getElementById("details").textContent);

function block(title, text) {
  const heading = document.createElement("p"), content = document.createElement("pre");
  heading.className = "small";
  heading.textContent = title;
  content.textContent = text;
  return [heading, content];
}

// Recipes and logs are put in when they are first opened.
function fill(part) {
  const run = details.runs[part.dataset.run];
  if (!part.open || !run || part.querySelector("pre")) return;
  if (run.problem) part.append(...block("what is wrong with its record", run.problem));
  part.append(...block("recipe", details.recipes[run.recipe]));
  part.append(...block("the last lines of its log", run.log || "no log yet"));
}
document.addEventListener("toggle", (event) => fill(event.target), true);

function show(part) {
  dialog.querySelector("h2").textContent = part.querySelector("summary").textContent;
  dialog.querySelector("form a").href = `#${part.id}`;
  dialog.querySelector("div").replaceChildren(part.querySelector(".body").cloneNode(true));
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
}
function reveal() {
  const part = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (part?.matches("details.cell")) show(part);
  else if (dialog.open) dialog.close();
}
for (const link of document.querySelectorAll("a.origin")) {
  link.addEventListener("click", (event) => {
    event.preventDefault();
    const part = document.getElementById(link.hash.slice(1));
    history.replaceState(null, "", link.hash);
    show(part);
  });
}
dialog.addEventListener("close", () => {
  if (location.hash) history.replaceState(null, "", location.pathname + location.search);
});
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
addEventListener("hashchange", reveal);
reveal();

// Rows of tables and claims that hold the words (or whose table's title does) and have such a number.
const filter = document.getElementById("filter");
filter.addEventListener("submit", (event) => event.preventDefault());
filter.addEventListener("input", () => {
  const [words, state] = [...filter.elements].map((one) => one.value.trim().toLowerCase());
  const holds = (one) => one.textContent.toLowerCase().includes(words);
  let shown = 0;
  for (const row of document.querySelectorAll("table.numbers tbody tr, table.claims tbody tr")) {
    const title = row.closest("section").querySelector("h2");
    const has = !state || !row.closest("table.numbers") || row.querySelector(state);
    row.hidden = !(has && (holds(row) || holds(title)));
    shown += !row.hidden;
  }
  for (const part of document.querySelectorAll("details.folded")) part.open ||= words !== "";
  document.getElementById("spoken").textContent = `${shown} rows`;
});
