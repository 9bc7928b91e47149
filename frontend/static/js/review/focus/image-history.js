// Who decided what on the image on the screen, fetched only while it is unfolded.
import { part } from "../page-parts.js";

export default class ImageHistory {
  #root;
  #store;
  #box;
  #imageId;
  #shown;
  #listening = new AbortController();

  constructor(root, store, imageId) {
    this.#root = root;
    this.#store = store;
    this.#box = part(root, "history");
    this.#imageId = this.#shown = imageId;
    const { signal } = this.#listening;
    this.#box.addEventListener("toggle", () => this.#fetch(), { signal });
    store.addEventListener("saved", () => this.#again(), { signal });
    store.addEventListener("conflict", () => this.#again(), { signal });
  }

  disconnect() {
    this.#listening.abort();
  }

  show(imageId) {
    this.#imageId = imageId;
    this.#fetch();
  }

  #again() {
    this.#shown = null;
    this.#fetch();
  }

  async #fetch() {
    const imageId = this.#imageId;
    if (!this.#box.open || this.#shown === imageId) return;
    this.#shown = imageId;
    try {
      const { items, count } = await this.#store.get(`images/${imageId}/history`);
      if (this.#imageId === imageId) this.#paint(items, count);
    } catch {
      this.#shown = null;
    }
  }

  #paint(items, count) {
    const lines = items.map(line);
    if (!count) lines.push(said("Nobody has decided on this image yet."));
    if (count > items.length) lines.push(said(`and ${count - items.length} earlier ones`));
    part(this.#root, "history-acts").replaceChildren(...lines);
  }
}

function line({ by, words, at, undone }) {
  const [entry, who, when] = ["li", "b", "time"].map((name) => document.createElement(name));
  who.textContent = by ?? "Somebody";
  when.dateTime = when.textContent = at;
  when.dataset.controller = "local-time";
  when.className = "muted";
  entry.classList.toggle("history__undone", undone);
  entry.append(who, ` ${words} `, when);
  return entry;
}

function said(sentence) {
  return Object.assign(document.createElement("li"), { className: "muted", textContent: sentence });
}
