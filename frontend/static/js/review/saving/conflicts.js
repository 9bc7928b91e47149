// Conflicts: someone else decided meanwhile. Their decision stands until the user says otherwise.
import { expectDecision } from "../decision-words.js";
import { part } from "../page-parts.js";

export default class Conflicts {
  #root;
  #store;
  #box;
  #listening = new AbortController();

  constructor(root, store) {
    this.#root = root;
    this.#store = store;
    this.#box = part(root, "conflict");
    const { signal } = this.#listening;
    store.addEventListener("conflict", this.#show, { signal });
    store.addEventListener("saved", ({ detail }) => this.#dropSettled(detail), { signal });
    // Another tab may settle one.
    addEventListener("storage", this.#show, { signal });
    part(root, "conflict-keep").addEventListener("click", () => this.#settle(), { signal });
    part(root, "conflict-use").addEventListener("click", () => this.#settle(true), { signal });
    this.#show();
  }

  disconnect() {
    this.#listening.abort();
  }

  #settle(mine = false) {
    const [first] = this.#store.conflicts;
    if (!first) return this.#show();
    this.#store.settle(first.name);
    const {
      image_id: image,
      action,
      label,
      image: { change },
    } = first.body;
    if (mine) this.#store.decide(image, action, label, change);
    return this.#show();
  }

  /** Deciding on the image again settles its conflict. */
  #dropSettled({ outcome }) {
    const decided = new Map(outcome.items.map((item) => [item.image_id, item.decision?.by_id]));
    for (const { name, body } of this.#store.conflicts) {
      if (String(decided.get(body.image_id)) === this.#root.dataset.user) this.#store.settle(name);
    }
    this.#show();
  }

  #show = () => {
    const [first, ...others] = this.#store.conflicts;
    this.#box.hidden = !first;
    if (!first) return;
    const { action, label, image, sentence } = first.body;
    const words = {
      "conflict-sentence": sentence,
      "conflict-mine": `You: ${expectDecision(this.#root, action, label).words}.`,
      "conflict-keep": `Keep ${image.decision?.by ? `${image.decision.by}\u2019s` : "theirs"}`,
      "conflict-more": others.length ? `and ${others.length} more` : "",
    };
    for (const [name, text] of Object.entries(words)) part(this.#root, name).textContent = text;
    part(this.#root, "conflict-image").src = image.thumbnail;
    part(this.#root, "conflict-image").alt = `Rank ${image.rank}: labelled ${image.label_name}`;
    part(this.#root, "conflict-link").href =
      `/reviews/${this.#root.dataset.review}/focus?at=${image.rank}&order=${this.#store.order}`;
  };
}
