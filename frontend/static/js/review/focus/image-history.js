// The decisions on the image on screen, fetched only while unfolded.
import { part } from "../page-parts.js";

export default class ImageHistory {
  #root;
  #store;
  #box;
  #imageId;
  #shownId;
  #listening = new AbortController();

  constructor(root, store, imageId) {
    this.#root = root;
    this.#store = store;
    this.#box = part(root, "history");
    this.#imageId = this.#shownId = imageId;
    const { signal } = this.#listening;
    this.#box.addEventListener("toggle", () => this.#fetch(), { signal });
    store.addEventListener("saved", () => this.#reload(), { signal });
    store.addEventListener("conflict", () => this.#reload(), { signal });
  }

  disconnect() {
    this.#listening.abort();
  }

  show(imageId) {
    this.#imageId = imageId;
    this.#fetch();
  }

  #reload() {
    this.#shownId = null;
    this.#fetch();
  }

  async #fetch() {
    const imageId = this.#imageId;
    if (!this.#box.open || this.#shownId === imageId) return;
    this.#shownId = imageId;
    try {
      const { items, count } = await this.#store.get(`images/${imageId}/history`);
      if (this.#imageId === imageId) this.#paint(items, count);
    } catch {
      this.#shownId = null;
    }
  }

  #paint(items, count) {
    const lines = items.map(createLine);
    if (!count) lines.push(createNote("No one has decided on this image yet."));
    if (count > items.length)
      lines.push(createNote(`and ${count - items.length} earlier decisions`));
    part(this.#root, "history-acts").replaceChildren(...lines);
  }
}

function createLine({ by, words, at, undone }) {
  const [entry, who, when] = ["li", "b", "time"].map((name) => document.createElement(name));
  who.textContent = by ?? "Someone";
  when.dateTime = when.textContent = at;
  when.dataset.controller = "local-time";
  when.className = "muted";
  entry.classList.toggle("history__undone", undone);
  entry.append(who, ` ${words} `, when);
  return entry;
}

function createNote(sentence) {
  return Object.assign(document.createElement("li"), { className: "muted", textContent: sentence });
}
