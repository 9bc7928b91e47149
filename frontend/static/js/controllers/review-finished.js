// Every image is decided: unsent decisions go out, and undo returns to the last image.
import { findActOf, formatKey, keyOf } from "../review/key-bindings.js";
import { paintProgress, part } from "../review/page-parts.js";
import DecisionStore from "../review/saving/decision-store.js";
import { showStatus } from "../review/status-line.js";

export default class {
  #root;
  #store;
  #listening = new AbortController();

  constructor(element) {
    this.#root = element;
    const { review, user, order } = element.dataset;
    this.#store = new DecisionStore({ review, user, order });
    for (const key of element.querySelectorAll("[data-key]"))
      key.textContent = formatKey(keyOf(key.dataset.key));
    const { signal } = this.#listening;
    document.addEventListener("keydown", (event) => this.#key(event), { signal });
    element.addEventListener("submit", (event) => this.#submit(event), { signal });
    this.#store.addEventListener("saved", ({ detail }) => this.#saved(detail), { signal });
    showStatus(element, this.#store);
  }

  disconnect() {
    this.#listening.abort();
    this.#store.disconnect();
  }

  #key(event) {
    const act = findActOf(event)?.act;
    if (act !== "undo" && act !== "redo") return;
    event.preventDefault();
    this.#store[act]();
  }

  #submit(event) {
    const { id } = event.target;
    if (id !== "undo" && id !== "redo") return;
    event.preventDefault();
    this.#store[id]();
  }

  #saved({ entry, outcome: { count, items, progress } }) {
    if (entry.path !== "undo" && entry.path !== "redo") paintProgress(this.#root, progress);
    else if (count === 1 && items.length) this.#open(items[0].rank);
    else part(this.#root, "grid").click();
  }

  #open(rank) {
    const query = new URLSearchParams(this.#root.dataset.view);
    query.set("at", rank);
    location.assign(`/reviews/${this.#root.dataset.review}/focus?${query}`);
  }
}
