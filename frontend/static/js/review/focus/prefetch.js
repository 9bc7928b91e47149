// The next images to decide, fetched in advance, pictures included.
import { filtersByDecision, parseFilter } from "../view-filter.js";

const PAGE = 12; // images a request
const PICTURES = 5; // loaded in advance

export default class Prefetch {
  #store;
  #query;
  #notify;
  #items = [];
  #start = 0;
  #atEnd = false;
  #loading = null;
  #dropped = new Set();
  #pictures = [];

  /** notify(items) gets the next few whenever they are there. */
  constructor(store, view, notify) {
    this.#store = store;
    this.#notify = notify;
    this.#query = new URLSearchParams(view);
    this.#query.delete("size");
    if (!filtersByDecision(parseFilter(view))) this.#query.set("decision", "undecided");
    this.#query.set("limit", PAGE);
  }

  /** The next image after a rank, then from the start; null when all are decided. */
  async next(rank) {
    const found = (await this.#findAfter(rank)) ?? (await this.#findAfter(0));
    if (found) this.prepare(found.rank);
    return found;
  }

  /** Fetch the images after a rank. */
  async prepare(rank) {
    if (!this.#items.length && !this.#loading) this.#restart(rank);
    if (this.#remaining(rank).length < PICTURES && !this.#atEnd)
      await this.#load(this.#items.at(-1)?.rank ?? rank).catch(() => {});
    const upcoming = this.#remaining(rank).slice(0, PICTURES);
    this.#pictures = upcoming.map(({ full }) => Object.assign(new Image(), { src: full }));
    this.#notify(upcoming);
  }

  drop(imageId) {
    this.#dropped.add(imageId);
  }

  restore(imageId) {
    this.#dropped.delete(imageId);
  }

  /** Forget what was fetched: these images are undecided again. */
  reset(imageIds = []) {
    for (const id of imageIds) this.#dropped.delete(id);
    this.#items = [];
    this.#atEnd = false;
  }

  #remaining(rank) {
    return this.#items.filter((item) => item.rank > rank && !this.#dropped.has(item.image_id));
  }

  async #findAfter(rank) {
    if (this.#loading) await this.#loading.catch(() => {});
    if (rank < this.#start || !this.#items.length) this.#restart(rank);
    while (!this.#remaining(rank).length && !this.#atEnd)
      await this.#load(this.#items.at(-1)?.rank ?? rank);
    return this.#remaining(rank)[0] ?? null;
  }

  #restart(rank) {
    this.#items = [];
    this.#start = rank;
    this.#atEnd = false;
  }

  async #load(after) {
    if (this.#loading) return this.#loading;
    this.#query.set("after", after);
    this.#loading = this.#store.get(`suggestions?${this.#query}`).then((page) => {
      this.#items.push(...page.items);
      this.#atEnd = page.next === null;
    });
    try {
      await this.#loading;
    } finally {
      this.#loading = null;
    }
  }
}
