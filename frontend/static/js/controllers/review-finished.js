// Everything is decided: the last act can still be taken back, which shows its image again; what could not be sent before goes out.
import { actOf, inWords, keyOf } from "../review/key-bindings.js";
import { paintProgress, part, showStatus } from "../review/page-parts.js";
import DecisionStore from "../review/saving/decision-store.js";

export default class {
  #root;
  #store;
  #listening = new AbortController();

  constructor(element) {
    this.#root = element;
    const { review, user, order } = element.dataset;
    this.#store = new DecisionStore({ review, user, order });
    for (const key of element.querySelectorAll("[data-key]"))
      key.textContent = inWords(keyOf(key.dataset.key));
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
    const act = actOf(event)?.act;
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
    else if (count === 1 && items.length) this.#show(items[0].rank);
    else part(this.#root, "grid").click();
  }

  #show(rank) {
    const query = new URLSearchParams(this.#root.dataset.view);
    query.set("at", rank);
    location.assign(`/reviews/${this.#root.dataset.review}/focus?${query}`);
  }
}
