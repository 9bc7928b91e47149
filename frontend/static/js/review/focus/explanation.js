// The explanation of the image on screen, and the images most like it. No decision waits for it.
import { part } from "../page-parts.js";

const PAUSE = 250; // milliseconds on an image before its explanation is requested
const [SHORTEST_POLL, LONGEST_POLL] = [150, 1000]; // milliseconds
const CACHE_SIZE = 40;
const EMPTY = { sentence: "\u2026", worse: [], better: [], like_given: [], like_predicted: [] };
const SIDES = {
  worse: "why-worse",
  better: "why-better",
  like_given: "like-given",
  like_predicted: "like-predicted",
};

export default class Explanation {
  #root;
  #store;
  #shownId = null;
  #timer;
  #cache = new Map();
  #queue = [];
  #fetching = false;

  constructor(root, store) {
    this.#root = root;
    this.#store = store;
  }

  disconnect() {
    this.#shownId = null;
    this.#queue = [];
    clearTimeout(this.#timer);
  }

  /** Show an image's explanation once known; `rendered`: the page came with it. */
  show(item, { rendered = false } = {}) {
    this.#shownId = item.image_id;
    clearTimeout(this.#timer);
    const cached = this.#cache.get(item.image_id);
    if (!rendered || cached) {
      part(this.#root, "like-given").querySelector("b").textContent = item.label_name;
      part(this.#root, "like-predicted").querySelector("b").textContent = item.predicted_name;
      this.#paint(cached ?? EMPTY);
    }
    if (cached?.state !== "ready")
      this.#timer = setTimeout(() => this.#request(item.image_id), PAUSE);
  }

  /** Fetch the explanations that exist for the next images, with their pictures. */
  prepare(items) {
    this.#queue = items.map((item) => item.image_id).filter((id) => !this.#cache.has(id));
    if (!this.#fetching) this.#fetch();
  }

  async #fetch() {
    this.#fetching = true;
    try {
      while (this.#queue.length) {
        const id = this.#queue.shift();
        this.#remember(id, await this.#store.get(`images/${id}/why`));
      }
    } catch {
      this.#queue = []; // requested again when the image is shown
    }
    this.#fetching = false;
  }

  #remember(id, explanation) {
    this.#cache.delete(id);
    this.#cache.set(id, explanation);
    if (this.#cache.size > CACHE_SIZE) this.#cache.delete(this.#cache.keys().next().value);
    for (const side of Object.keys(SIDES))
      for (const { thumbnail } of explanation[side]) new Image().src = thumbnail;
  }

  async #request(imageId, poll = SHORTEST_POLL) {
    const path = `images/${imageId}/why`;
    try {
      let explanation = await this.#store.get(path);
      if (explanation.state === "none") explanation = await this.#store.post(path);
      this.#remember(imageId, explanation);
      if (this.#shownId !== imageId) return;
      this.#paint(explanation);
      if (explanation.state === "waiting")
        this.#timer = setTimeout(
          () => this.#request(imageId, Math.min(1.5 * poll, LONGEST_POLL)),
          poll,
        );
    } catch {
      if (this.#shownId === imageId)
        part(this.#root, "why-sentence").textContent = "It cannot be loaded now.";
    }
  }

  #paint(explanation) {
    part(this.#root, "why-sentence").textContent = explanation.sentence;
    for (const [side, name] of Object.entries(SIDES)) {
      const box = part(this.#root, name);
      box.hidden = !explanation[side].length;
      box
        .querySelector("ul")
        .replaceChildren(
          ...explanation[side].map((image) => createEntry(image, name.startsWith("like"))),
        );
    }
  }
}

function createEntry({ thumbnail, label_name: label, caption }, like) {
  const picture = Object.assign(new Image(), {
    src: thumbnail,
    alt: `${like ? "Image" : "Validation image"} labelled ${label}`,
  });
  const words = document.createElement("figcaption");
  words.textContent = caption;
  const [item, figure] = [document.createElement("li"), document.createElement("figure")];
  figure.append(picture, words);
  item.append(figure);
  return item;
}
