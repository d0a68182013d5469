"use strict";
// The page is whole without this: it adds search, filters, keys and links to copy. Foreign text is only ever read here.
const root = document.documentElement;
const every = (selector, within = document) => [...within.querySelectorAll(selector)];
const byId = (id) => document.getElementById(id);
const groups = every(".group");
const failures = every(".case");
const search = byId("search");
const texts = new WeakMap();

const textOf = (entry) => {
  if (!texts.has(entry)) texts.set(entry, entry.textContent.toLowerCase());
  return texts.get(entry);
};

function show() {
  const wanted = search.value.trim().toLowerCase();
  let found = 0;
  let all = 0;
  const matches = [];
  for (const group of groups) {
    const button = document.querySelector(`button[data-outcome="${group.dataset.outcome}"]`);
    const isOn = button.getAttribute("aria-pressed") === "true";
    let here = 0;
    for (const entry of every(".entry", group)) {
      all += 1;
      const isHit = isOn && (!wanted || textOf(entry).includes(wanted));
      if (entry.hidden === isHit) entry.hidden = !isHit;
      here += isHit;
      if (isHit && wanted && matches.length < 100) matches.push(entry);
    }
    group.hidden = !isOn || (wanted !== "" && !here);
    found += here;
    unfold(every(":scope > details", group), wanted && here);
  }
  byId("found").textContent = found === all ? "" : `${found.toLocaleString("en")} of ${all.toLocaleString("en")} tests`;
  mark(matches, wanted);
}

// What a search has opened is folded again when the search is over.
function unfold(details, isWanted) {
  for (const each of details) {
    if (isWanted && !each.open) {
      each.open = true;
      each.dataset.opened = "";
    } else if (!isWanted && "opened" in each.dataset) {
      each.open = false;
      delete each.dataset.opened;
    }
  }
}

function mark(entries, wanted) {
  if (!wanted) unfold(every("details[data-opened]"), false);
  const ranges = [];
  for (const entry of entries) {
    const walker = document.createTreeWalker(entry, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node && ranges.length < 500; node = walker.nextNode()) {
      const text = node.data.toLowerCase();
      for (let at = text.indexOf(wanted); at >= 0 && ranges.length < 500; at = text.indexOf(wanted, at + wanted.length)) {
        if (at + wanted.length > node.length) break;
        const range = new Range();
        range.setStart(node, at);
        range.setEnd(node, at + wanted.length);
        ranges.push(range);
        const folded = node.parentElement.closest("details");
        if (folded) unfold([folded], true);
      }
    }
  }
  if (window.Highlight && CSS.highlights) CSS.highlights.set("found", new Highlight(...ranges));
}

function toggle(button) {
  const isOn = button.getAttribute("aria-pressed") !== "true";
  button.setAttribute("aria-pressed", String(isOn));
  return isOn;
}

function step(distance) {
  const visible = failures.filter((each) => !each.closest("[hidden]"));
  if (!visible.length) return;
  const at = visible.indexOf(document.activeElement.closest?.(".case"));
  const next = at < 0 ? (distance > 0 ? 0 : visible.length - 1) : Math.min(Math.max(at + distance, 0), visible.length - 1);
  visible[next].focus({ preventScroll: true });
  visible[next].scrollIntoView();
}

// What decides, else the end, and not the beginning of its log, is what one wants to see first.
function toTrouble(scrolls) {
  for (const scroll of scrolls) {
    const line = scroll.querySelector(".decisive") ?? scroll.querySelector(".moment, tbody tr:last-child");
    if (line) scroll.scrollTop = line.offsetTop - scroll.clientHeight * 0.4;
  }
}

function reveal() {
  const target = document.querySelector(".entry:target");
  if (!target) return;
  if (target.closest("[hidden]")) clear();
  for (let each = target.closest("details"); each; each = each.parentElement.closest("details")) each.open = true;
  target.scrollIntoView();
}

function clear() {
  search.value = "";
  for (const button of every("button[data-outcome]")) button.setAttribute("aria-pressed", "true");
  show();
}

for (const button of every("button[data-outcome]")) {
  button.addEventListener("click", () => {
    toggle(button);
    show();
  });
}
for (const button of every("button[data-source]")) {
  button.hidden = !document.querySelector(`.line.s-${button.dataset.source}`);
  button.addEventListener("click", () => {
    toggle(button);
    root.dataset.hide = every('button[data-source][aria-pressed="false"]').map((each) => each.dataset.source).join(" ");
  });
}
byId("levels").hidden = !document.querySelector(".line");
byId("levels").addEventListener("click", (event) => {
  root.toggleAttribute("data-levels", toggle(event.currentTarget));
});

let waiting;
search.addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(show, 60);
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") {
    clear();
    search.blur();
  } else if (event.target.matches("input")) {
    return;
  } else if (event.key === "/") {
    event.preventDefault();
    search.focus();
  } else if (event.key === "j" || event.key === "k") {
    step(event.key === "j" ? 1 : -1);
  }
});
document.addEventListener("click", (event) => {
  const link = event.target.closest(".link");
  if (link) navigator.clipboard?.writeText(link.href).catch(() => {}); // the address bar has it in any case
});
document.addEventListener("toggle", (event) => event.target.open && toTrouble(every(":scope > .scroll", event.target)), true);

const theme = byId("theme");
const isDark = () => (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
const name = () => { theme.textContent = isDark() ? "Light" : "Dark"; };
theme.addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  name();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", name);
name();
theme.hidden = false;
document.querySelector(".tools").hidden = !document.querySelector(".entry, .line");
addEventListener("hashchange", reveal);
// What is folded is laid out when it is opened.
toTrouble(every("details[open] > .scroll, section > .scroll"));
reveal();
