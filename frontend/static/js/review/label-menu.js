// Which label an image should have: a plain menu for few classes, one to search in where there are more than there are digits.
import { part } from "./page-parts.js";

const FEW = 10;
const MOST_SHOWN = 50;
const MOST_RECENT = 5;

export default class LabelMenu {
  #select;
  #names;
  #give;
  #seen;
  #input;
  #list;
  #found = [];
  #at = 0;
  #recent = [];
  #before = null;

  /** `give` takes the number of the label that was chosen; `seen` says which one the model sees, or null. */
  constructor(root, give, seen) {
    this.#select = part(root, "label");
    this.#names = [...this.#select.options].slice(1).map((option) => option.text);
    this.#give = give;
    this.#seen = seen;
    if (this.#names.length > FEW) this.#search();
    else this.#select.addEventListener("keydown", (event) => this.#plain(event));
    (this.#input ?? this.#select).addEventListener("focus", ({ relatedTarget }) => {
      this.#before = relatedTarget;
    });
  }

  /** The chosen label's number, as text; empty when none is chosen. */
  get value() {
    return this.#input?.value ? String(this.#found[this.#at] ?? "") : this.#select.value;
  }

  open() {
    (this.#input ?? this.#select).focus();
  }

  /** Empty it and take the keys out of it. */
  clear() {
    this.#select.value = "";
    this.#select.blur();
    this.#input?.blur();
  }

  #plain(event) {
    const label = event.target.value;
    const acts = { Enter: () => this.#give(label), Escape: () => this.#leave() };
    if (!acts[event.key] || (event.key === "Enter" && label === "")) return;
    event.preventDefault();
    event.stopPropagation(); // here Esc leaves the menu, not the page
    acts[event.key]();
  }

  /** Choose nothing: the keys are again whose they were. */
  #leave() {
    this.clear();
    this.#before?.focus({ preventScroll: true });
  }

  #search() {
    const name = this.#select.getAttribute("aria-label");
    const menu = document.createElement("div");
    menu.className = "label-menu";
    this.#input = Object.assign(document.createElement("input"), {
      type: "text",
      autocomplete: "off",
      placeholder: this.#select.options[0].text,
    });
    this.#list = Object.assign(document.createElement("ul"), { id: "label-options", hidden: true });
    const roles = {
      role: "combobox",
      "aria-label": name,
      "aria-autocomplete": "list",
      "aria-expanded": "false",
      "aria-controls": "label-options",
    };
    for (const [key, value] of Object.entries(roles)) this.#input.setAttribute(key, value);
    this.#list.setAttribute("role", "listbox");
    this.#list.setAttribute("aria-label", name);
    menu.append(this.#input, this.#list);
    this.#select.before(menu);
    this.#select.hidden = true;
    this.#listen();
  }

  #listen() {
    this.#input.addEventListener("focus", () => this.#show());
    this.#input.addEventListener("input", () => this.#show());
    this.#input.addEventListener("blur", () => this.#close());
    this.#input.addEventListener("keydown", (event) => this.#key(event));
    // So that what was typed is still there for the button beside it.
    this.#select.parentElement
      .querySelector("[value=relabel]")
      .addEventListener("mousedown", (event) => {
        if (this.#input.value) event.preventDefault();
      });
    // The field keeps the focus, else the list would close before the click arrives.
    this.#list.addEventListener("pointerdown", (event) => event.preventDefault());
    this.#list.addEventListener("click", ({ target }) =>
      this.#choose(target.closest("[data-label]")?.dataset.label),
    );
  }

  #key(event) {
    const acts = {
      ArrowDown: () => this.#mark(this.#at + 1),
      ArrowUp: () => this.#mark(this.#at - 1),
      Enter: () => this.#choose(this.#found[this.#at]),
      Escape: () => this.#leave(),
    };
    if (event.isComposing || !acts[event.key]) return;
    event.preventDefault();
    event.stopPropagation(); // here Esc leaves the menu, not the page
    acts[event.key]();
  }

  #choose(label) {
    if (label === undefined) return;
    this.#recent = [Number(label), ...this.#recent.filter((one) => one !== Number(label))].slice(
      0,
      MOST_RECENT,
    );
    this.#give(String(label));
    this.clear();
  }

  #close() {
    this.#input.value = "";
    this.#list.hidden = true;
    this.#input.setAttribute("aria-expanded", "false");
    this.#input.removeAttribute("aria-activedescendant");
  }

  #show() {
    const all = this.#matching(this.#input.value.trim().toLowerCase());
    this.#found = all.slice(0, MOST_SHOWN);
    this.#list.replaceChildren(
      ...this.#found.map((label) => this.#option(label)),
      ...this.#rest(all.length),
    );
    this.#list.hidden = false;
    this.#input.setAttribute("aria-expanded", "true");
    this.#mark(0);
  }

  /** What the model sees and what was given lately come first; then names that begin so, then names that hold it. */
  #matching(text) {
    const known = [...new Set([this.#seen(), ...this.#recent])].filter((label) => label !== null);
    const order = [...new Set([...known, ...this.#names.keys()])];
    if (!text) return order;
    const place = (label) => this.#names[label].toLowerCase().indexOf(text);
    return order
      .filter((label) => place(label) >= 0)
      .sort((one, other) => Math.sign(place(one)) - Math.sign(place(other)));
  }

  #option(label) {
    const line = Object.assign(document.createElement("li"), {
      id: `label-option-${label}`,
      textContent: this.#names[label],
    });
    line.setAttribute("role", "option");
    line.dataset.label = label;
    if (label === this.#seen())
      line.append(
        Object.assign(document.createElement("small"), { textContent: " the model sees this" }),
      );
    return line;
  }

  #rest(count) {
    if (count && count <= MOST_SHOWN) return [];
    const words = count
      ? `and ${(count - MOST_SHOWN).toLocaleString("en-US")} more: type a part of the name`
      : "No class is called that.";
    const line = Object.assign(document.createElement("li"), {
      className: "label-menu__rest",
      textContent: words,
    });
    line.setAttribute("role", "option");
    line.setAttribute("aria-disabled", "true");
    return [line];
  }

  #mark(place) {
    this.#at = Math.max(0, Math.min(place, this.#found.length - 1));
    for (const [at, line] of [...this.#list.children].entries())
      line.setAttribute("aria-selected", String(at === this.#at && at < this.#found.length));
    const line = this.#found.length ? this.#list.children[this.#at] : null;
    this.#input.setAttribute("aria-activedescendant", line?.id ?? "");
    line?.scrollIntoView({ block: "nearest" });
  }
}
