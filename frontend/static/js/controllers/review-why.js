// Why the image on the screen is suggested. It comes when it comes: no decision waits for it, and moving on forgets it.
import { part } from "./review-paint.js";

// An image that is only passed by asks for nothing.
const PAUSE = 250;
const POLL = 1000;

export default class Why {
  #root; #store; #shown = null; #timer;

  constructor(root, store) {
    this.#root = root;
    this.#store = store;
  }

  disconnect() { this.#shown = null; clearTimeout(this.#timer); }

  /** Show why this image is suggested, as soon as that is known. */
  show(imageId) {
    this.#shown = imageId;
    clearTimeout(this.#timer);
    this.#paint({ sentence: "\u2026", worse: [], better: [] });
    this.#timer = setTimeout(() => this.#ask(imageId), PAUSE);
  }

  async #ask(imageId) {
    const path = `images/${imageId}/why`;
    try {
      let found = await this.#store.get(path);
      if (found.state === "none") found = await this.#store.post(path);
      if (this.#shown !== imageId) return;
      this.#paint(found);
      if (found.state === "waiting") this.#timer = setTimeout(() => this.#ask(imageId), POLL);
    } catch {
      if (this.#shown === imageId) this.#paint({ sentence: "It cannot be loaded now.", worse: [], better: [] });
    }
  }

  #paint({ sentence, worse, better }) {
    part(this.#root, "why-sentence").textContent = sentence;
    for (const [side, images] of [["worse", worse], ["better", better]]) {
      const box = part(this.#root, `why-${side}`);
      box.hidden = !images.length;
      box.querySelector("ul").replaceChildren(...images.map(item));
    }
  }
}

function item({ thumbnail, label_name: label }) {
  const picture = Object.assign(new Image(), { src: thumbnail, alt: `Validation image labelled ${label}` });
  const words = document.createElement("figcaption");
  words.textContent = label;
  const [entry, figure] = [document.createElement("li"), document.createElement("figure")];
  figure.append(picture, words);
  entry.append(figure);
  return entry;
}
