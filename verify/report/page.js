const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

for (const each of $$(".script")) each.hidden = false;

// The page's state is the value of every control; what differs from the beginning is in the address.
const controls = $$("form.controls [name]");
const valueOf = (control) => (control.type === "checkbox" ? (control.checked ? "1" : "") : control.value);
const setValue = (control, value) => {
  if (control.type === "checkbox") control.checked = value === "1";
  else control.value = value;
};
const table = $("#rows");
const rows = table ? $$("tbody tr", table) : [];
const scoresOf = new Map(rows.map((row) => [row, JSON.parse(row.dataset.scores || "{}")]));
let order = { title: "", falls: false };

const fill = (name, values) => {
  const select = $(`[name=${name}]`);
  if (!select) return;
  for (const value of [...new Set(values)].filter(Boolean).sort()) {
    const option = document.createElement("option");
    option.value = option.textContent = value;
    select.append(option);
  }
  select.parentElement.hidden = select.options.length < 2;
};
const dialogues = $$(".dialogue");
fill("format", rows.map((row) => row.dataset.format));
fill("verdict", rows.filter((row) => row.classList.contains("artifact")).map((row) => row.dataset.verdict));
fill("runtime", rows.flatMap((row) => row.dataset.runtime.split(", ")));
fill("scenario", dialogues.map((each) => each.dataset.scenario));
fill("spoken", dialogues.map((each) => each.dataset.language));
const beginning = new Map(controls.map((control) => [control.name, valueOf(control)]));

const filter = () => {
  const wanted = (name) => $(`[name=${name}]`)?.value ?? "";
  const [scenario, language] = [wanted("scenario"), wanted("spoken")];
  for (const row of rows) {
    const isSource = row.classList.contains("source");
    row.hidden = "absent" in row.dataset || !isSource && ["format", "verdict", "runtime"].some((name) => {
      const has = name === "runtime" ? row.dataset[name].split(", ") : [row.dataset[name]];
      return wanted(name) && !has.includes(wanted(name));
    });
    scored(row, scenario, language);
  }
  const differ = $("[name=differ]")?.checked;
  const lost = $("[name=lost]")?.checked;
  let shown = 0;
  for (const each of dialogues) {
    each.hidden = (scenario && each.dataset.scenario !== scenario)
      || (language && each.dataset.language !== language)
      || (differ && !("differs" in each.dataset)) || (lost && !("lost" in each.dataset));
    shown += !each.hidden;
  }
  if ($("#talk-count")) $("#talk-count").textContent = `${shown} of ${dialogues.length}`;
};

// The share of passed dialogues of the chosen scenario and language; all of them as they were rendered.
const rendered = new Map(rows.map((row) => [row, $(".smoke", row)]).filter(([, cell]) => cell)
  .map(([row, cell]) => [row, { value: cell.dataset.value, nodes: [...cell.childNodes] }]));
const scored = (row, scenario, language) => {
  const cell = $(".smoke", row);
  if (!cell || !rendered.has(row)) return;
  if (!scenario && !language) {
    cell.dataset.value = rendered.get(row).value;
    cell.replaceChildren(...rendered.get(row).nodes);
    return;
  }
  const found = Object.entries(scoresOf.get(row)).filter(([name]) => {
    const at = name.lastIndexOf(" ");
    return (!scenario || name.slice(0, at) === scenario) && (!language || name.slice(at + 1) === language);
  }).map(([, [passed, count]]) => [passed, count]);
  const count = found.reduce((sum, each) => sum + each[1], 0);
  const share = found.reduce((sum, each) => sum + each[0] * each[1], 0) / count;
  cell.dataset.value = count ? share : "";
  cell.textContent = count ? `${+(100 * share).toFixed(1)} %` : "—";
};

const sort = () => {
  if (!table) return;
  for (const head of $$("th", table)) {
    head.setAttribute("aria-sort", head.dataset.sort !== order.title ? "none"
      : order.falls ? "descending" : "ascending");
  }
  const place = $$("th", table).findIndex((head) => head.dataset.sort === order.title);
  const cell = (row) => row.cells[place].dataset.value ?? "";
  const isNumber = (text) => text !== "" && !Number.isNaN(Number(text));
  const compared = (one, other) => {
    const [a, b] = [cell(one), cell(other)];
    if (a === "" || b === "") return (a === "") - (b === "");
    const difference = isNumber(a) && isNumber(b) ? a - b : a.localeCompare(b);
    return order.falls ? -difference : difference;
  };
  const isSource = (row) => row.classList.contains("source");
  const listed = [...rows];
  // Unless a reader sorts, the best on the chosen machine come first.
  const ranked = (one, other) => Number(one.dataset.rank ?? 0) - Number(other.dataset.rank ?? 0);
  listed.sort((one, other) => isSource(other) - isSource(one) || (place >= 0 ? compared : ranked)(one, other));
  $("tbody", table).append(...listed);
};

const remember = (at) => {
  const state = new URLSearchParams();
  for (const control of controls) {
    if (valueOf(control) !== beginning.get(control.name)) state.set(control.name, valueOf(control));
  }
  if (order.title) state.set("sort", (order.falls ? "-" : "") + order.title);
  if (at) state.set("at", at);
  history.replaceState(null, "", `#${state}`);
};

const recall = () => {
  const text = decodeURIComponent(location.hash.slice(1));
  const state = new URLSearchParams(text.includes("=") ? location.hash.slice(1) : "");
  for (const control of controls) setValue(control, state.get(control.name) ?? beginning.get(control.name));
  const sorted = state.get("sort") ?? "";
  order = { title: sorted.replace(/^-/, ""), falls: sorted.startsWith("-") };
  update();
  go(state.get("at") ?? (text.includes("=") ? "" : text));
};

const go = (anchor) => {
  const place = anchor && document.getElementById(anchor);
  if (!place) return;
  for (let each = place; each; each = each.parentElement) if (each.tagName === "DETAILS") each.open = true;
  place.scrollIntoView();
};

const update = () => {
  if (typeof chosen === "function") plotted(chosen());
  filter();
  sort();
};

for (const form of $$("form.controls")) {
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", () => { update(); remember(); });
}
for (const head of table ? $$("th", table) : []) {
  head.tabIndex = 0;
  const turn = () => {
    const again = order.title === head.dataset.sort;
    order = again && order.falls ? { title: "", falls: false } : { title: head.dataset.sort, falls: again };
    sort();
    remember();
  };
  head.addEventListener("click", turn);
  head.addEventListener("keydown", (event) => { if (event.key === "Enter") turn(); });
}
document.addEventListener("click", (event) => {
  const link = event.target.closest("a");
  const anchor = (link?.getAttribute("href") ?? "").slice(1);
  if (anchor) {
    event.preventDefault();
    go(anchor);
    remember(anchor);
  }
  const button = event.target.closest("button.copy");
  if (button) copy(button);
});
const copy = async (button) => {
  const code = $("code", button.parentElement);
  try {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "copied";
  } catch {
    // A page from a disk may not write to the clipboard: what is selected can be copied by hand.
    getSelection().selectAllChildren(code);
    button.textContent = "selected";
  }
  setTimeout(() => { button.textContent = "copy"; }, 2000);
};
addEventListener("hashchange", recall);
recall();
