// Why the image on the screen is suggested, and which images look like it. It comes when it comes: no decision waits for it, and moving on forgets it.
import { part } from "../page-parts.js";

// An image that is only passed by asks for nothing.
const PAUSE = 250;
// Between two looks for an answer that is coming: it often is there at once, and need not be asked for often where it takes long.
const [FIRST_POLL, LAST_POLL] = [150, 1000];
// Answers kept: those of the next images, and of some that one may come back to.
const KEPT = 40;
const NOTHING = { sentence: "\u2026", worse: [], better: [], like_given: [], like_predicted: [] };
const SIDES = {
  worse: "why-worse",
  better: "why-better",
  like_given: "like-given",
  like_predicted: "like-predicted",
};

export default class Explanation {
  #root;
  #store;
  #shown = null;
  #timer;
  #known = new Map();
  #coming = [];
  #fetching = false;

  constructor(root, store) {
    this.#root = root;
    this.#store = store;
  }

  disconnect() {
    this.#shown = null;
    this.#coming = [];
    clearTimeout(this.#timer);
  }

  /** Show why this image is suggested, as soon as that is known; `there`: the page shows already what was known when it was made. */
  show(item, { there = false } = {}) {
    this.#shown = item.image_id;
    clearTimeout(this.#timer);
    const known = this.#known.get(item.image_id);
    if (!there || known) {
      part(this.#root, "like-given").querySelector("b").textContent = item.label_name;
      part(this.#root, "like-predicted").querySelector("b").textContent = item.predicted_name;
      this.#paint(known ?? NOTHING);
    }
    if (known?.state !== "ready") this.#timer = setTimeout(() => this.#ask(item.image_id), PAUSE);
  }

  /** Have the answers for the images that come next at hand, pictures included: one after the other, and only what there is already. */
  prepare(items) {
    this.#coming = items.map((item) => item.image_id).filter((id) => !this.#known.has(id));
    if (!this.#fetching) this.#fetch();
  }

  async #fetch() {
    this.#fetching = true;
    try {
      while (this.#coming.length) {
        const id = this.#coming.shift();
        this.#keep(id, await this.#store.get(`images/${id}/why`));
      }
    } catch {
      this.#coming = []; /* it is asked for when it is shown */
    }
    this.#fetching = false;
  }

  #keep(id, found) {
    this.#known.delete(id);
    this.#known.set(id, found);
    if (this.#known.size > KEPT) this.#known.delete(this.#known.keys().next().value);
    for (const side of Object.keys(SIDES))
      for (const { thumbnail } of found[side]) new Image().src = thumbnail;
  }

  async #ask(imageId, poll = FIRST_POLL) {
    const path = `images/${imageId}/why`;
    try {
      let found = await this.#store.get(path);
      if (found.state === "none") found = await this.#store.post(path);
      this.#keep(imageId, found);
      if (this.#shown !== imageId) return;
      this.#paint(found);
      if (found.state === "waiting")
        this.#timer = setTimeout(() => this.#ask(imageId, Math.min(1.5 * poll, LAST_POLL)), poll);
    } catch {
      if (this.#shown === imageId)
        part(this.#root, "why-sentence").textContent = "It cannot be loaded now.";
    }
  }

  #paint(found) {
    part(this.#root, "why-sentence").textContent = found.sentence;
    for (const [side, name] of Object.entries(SIDES)) {
      const box = part(this.#root, name);
      box.hidden = !found[side].length;
      box
        .querySelector("ul")
        .replaceChildren(...found[side].map((image) => entry(image, name.startsWith("like"))));
    }
  }
}

function entry({ thumbnail, label_name: label, caption }, like) {
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
