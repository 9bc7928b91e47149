// The next images to decide, fetched before they are wanted, pictures included.

import { filterOf, saysWhichDecided } from "../view-filter.js";

const LIMIT = 12;
const PICTURES = 5;

export default class Prefetch {
  #store;
  #query;
  #tell;
  #items = [];
  #base = 0;
  #end = false;
  #filling = null;
  #done = new Set();
  #pictures = [];

  /** tell(items): called with the next few whenever they are at hand. */
  constructor(store, view, tell) {
    this.#store = store;
    this.#tell = tell;
    this.#query = new URLSearchParams(view);
    this.#query.delete("size");
    if (!saysWhichDecided(filterOf(view))) this.#query.set("decision", "undecided");
    this.#query.set("limit", LIMIT);
  }

  /** The next one behind a rank, from the start again when there is none; null when all are decided. */
  async next(rank) {
    const found = (await this.#behind(rank)) ?? (await this.#behind(0));
    if (found) this.prepare(found.rank);
    return found;
  }

  /** Have the ones behind a rank at hand. */
  async prepare(rank) {
    if (!this.#items.length && !this.#filling) this.#restart(rank);
    if (this.#left(rank).length < PICTURES && !this.#end)
      await this.#fill(this.#items.at(-1)?.rank ?? rank).catch(() => {});
    const coming = this.#left(rank).slice(0, PICTURES);
    this.#pictures = coming.map(({ full }) => Object.assign(new Image(), { src: full }));
    this.#tell(coming);
  }

  drop(imageId) {
    this.#done.add(imageId);
  }

  restore(imageId) {
    this.#done.delete(imageId);
  }

  /** Forget what was fetched: decisions were taken back. */
  reset(imageIds = []) {
    for (const id of imageIds) this.#done.delete(id);
    this.#items = [];
    this.#end = false;
  }

  #left(rank) {
    return this.#items.filter((item) => item.rank > rank && !this.#done.has(item.image_id));
  }

  async #behind(rank) {
    if (this.#filling) await this.#filling.catch(() => {});
    if (rank < this.#base || !this.#items.length) this.#restart(rank);
    while (!this.#left(rank).length && !this.#end)
      await this.#fill(this.#items.at(-1)?.rank ?? rank);
    return this.#left(rank)[0] ?? null;
  }

  #restart(rank) {
    this.#items = [];
    this.#base = rank;
    this.#end = false;
  }

  async #fill(after) {
    if (this.#filling) return this.#filling;
    this.#query.set("after", after);
    this.#filling = this.#store.get(`suggestions?${this.#query}`).then((page) => {
      this.#items.push(...page.items);
      this.#end = page.next === null;
    });
    try {
      await this.#filling;
    } finally {
      this.#filling = null;
    }
  }
}
