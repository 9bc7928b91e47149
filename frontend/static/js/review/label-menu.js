// The menu of labels; with more than ten classes it can be searched.
import { part } from "./page-parts.js";

const MOST_WITHOUT_SEARCH = 10;
const MOST_SHOWN = 50;
const MOST_RECENT = 5;

export default class LabelMenu {
  #select;
  #names;
  #apply;
  #getPredicted;
  #input;
  #list;
  #matches = [];
  #position = 0;
  #recent = [];
  #previousFocus = null;

  /** apply(label) uses the chosen label; getPredicted() says which the model sees, or null. */
  constructor(root, apply, getPredicted) {
    this.#select = part(root, "label");
    this.#names = [...this.#select.options].slice(1).map((option) => option.text);
    this.#apply = apply;
    this.#getPredicted = getPredicted;
    if (this.#names.length > MOST_WITHOUT_SEARCH) this.#addSearch();
    else this.#select.addEventListener("keydown", (event) => this.#handleSelectKey(event));
    (this.#input ?? this.#select).addEventListener("focus", ({ relatedTarget }) => {
      this.#previousFocus = relatedTarget;
    });
  }

  /** The chosen label's number, as text; empty when none is chosen. */
  get value() {
    return this.#input?.value ? String(this.#matches[this.#position] ?? "") : this.#select.value;
  }

  open() {
    (this.#input ?? this.#select).focus();
  }

  /** Empty the menu and leave it. */
  clear() {
    this.#select.value = "";
    this.#select.blur();
    this.#input?.blur();
  }

  #handleSelectKey(event) {
    const label = event.target.value;
    const acts = { Enter: () => this.#apply(label), Escape: () => this.#cancel() };
    if (!acts[event.key] || (event.key === "Enter" && label === "")) return;
    event.preventDefault();
    event.stopPropagation(); // Esc leaves the menu, not the page
    acts[event.key]();
  }

  /** Choose nothing, and return the focus. */
  #cancel() {
    this.clear();
    this.#previousFocus?.focus({ preventScroll: true });
  }

  #addSearch() {
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
    this.#input.addEventListener("keydown", (event) => this.#handleSearchKey(event));
    // Blur would clear what was typed before the button next to it can use it.
    this.#select.parentElement
      .querySelector("[value=relabel]")
      .addEventListener("mousedown", (event) => {
        if (this.#input.value) event.preventDefault();
      });
    // Without the focus, the list would close before the click arrives.
    this.#list.addEventListener("pointerdown", (event) => event.preventDefault());
    this.#list.addEventListener("click", ({ target }) =>
      this.#choose(target.closest("[data-label]")?.dataset.label),
    );
  }

  #handleSearchKey(event) {
    const acts = {
      ArrowDown: () => this.#highlight(this.#position + 1),
      ArrowUp: () => this.#highlight(this.#position - 1),
      Enter: () => this.#choose(this.#matches[this.#position]),
      Escape: () => this.#cancel(),
    };
    if (event.isComposing || !acts[event.key]) return;
    event.preventDefault();
    event.stopPropagation(); // Esc leaves the menu, not the page
    acts[event.key]();
  }

  #choose(label) {
    if (label === undefined) return;
    this.#recent = [
      Number(label),
      ...this.#recent.filter((other) => other !== Number(label)),
    ].slice(0, MOST_RECENT);
    this.#apply(String(label));
    this.clear();
  }

  #close() {
    this.#input.value = "";
    this.#list.hidden = true;
    this.#input.setAttribute("aria-expanded", "false");
    this.#input.removeAttribute("aria-activedescendant");
  }

  #show() {
    const all = this.#findMatches(this.#input.value.trim().toLowerCase());
    this.#matches = all.slice(0, MOST_SHOWN);
    this.#list.replaceChildren(
      ...this.#matches.map((label) => this.#createOption(label)),
      ...this.#createNote(all.length),
    );
    this.#list.hidden = false;
    this.#input.setAttribute("aria-expanded", "true");
    this.#highlight(0);
  }

  /** Labels in order: predicted, recent, names that begin with the text, names that contain it. */
  #findMatches(text) {
    const first = [...new Set([this.#getPredicted(), ...this.#recent])].filter(
      (label) => label !== null,
    );
    const order = [...new Set([...first, ...this.#names.keys()])];
    if (!text) return order;
    const place = (label) => this.#names[label].toLowerCase().indexOf(text);
    return order
      .filter((label) => place(label) >= 0)
      .sort((a, b) => Math.sign(place(a)) - Math.sign(place(b)));
  }

  #createOption(label) {
    const line = Object.assign(document.createElement("li"), {
      id: `label-option-${label}`,
      textContent: this.#names[label],
    });
    line.setAttribute("role", "option");
    line.dataset.label = label;
    if (label === this.#getPredicted())
      line.append(
        Object.assign(document.createElement("small"), { textContent: " the model sees this" }),
      );
    return line;
  }

  #createNote(count) {
    if (count && count <= MOST_SHOWN) return [];
    const words = count
      ? `and ${(count - MOST_SHOWN).toLocaleString("en-US")} more: type part of the name`
      : "No class is called that.";
    const line = Object.assign(document.createElement("li"), {
      className: "label-menu__rest",
      textContent: words,
    });
    line.setAttribute("role", "option");
    line.setAttribute("aria-disabled", "true");
    return [line];
  }

  #highlight(place) {
    this.#position = Math.max(0, Math.min(place, this.#matches.length - 1));
    for (const [at, line] of [...this.#list.children].entries())
      line.setAttribute(
        "aria-selected",
        String(at === this.#position && at < this.#matches.length),
      );
    const line = this.#matches.length ? this.#list.children[this.#position] : null;
    this.#input.setAttribute("aria-activedescendant", line?.id ?? "");
    line?.scrollIntoView({ block: "nearest" });
  }
}
