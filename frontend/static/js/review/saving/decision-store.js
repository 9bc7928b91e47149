// Sends acts in order. Events: state (saved, saving, offline or signed-out), saved, refused and
// conflict. Each decision carries the last change the user saw, so that no unseen decision is
// overwritten.
import Outbox from "./outbox.js";

const LONGEST_DELAY = 15_000;

export default class DecisionStore extends EventTarget {
  #base;
  #headers;
  #outbox;
  #sending = null;
  #timer;
  #delay = 1000;
  #sendAgain = false;
  #shownChanges = new Map();
  state = "saved";
  seen = 0; // number of the last change on the page

  constructor({ review, user, order }) {
    super();
    this.#base = `/api/v1/reviews/${review}`;
    // If someone else signs in meanwhile, the server refuses: acts wait for their author.
    this.#headers = {
      "Content-Type": "application/json",
      Accept: "application/json",
      "X-Winnow-User": user,
    };
    this.order = order;
    this.#outbox = new Outbox(review, user);
    addEventListener("online", this.send);
    addEventListener("offline", this.#offline);
    // The user may have signed in again in another tab.
    addEventListener("focus", this.#retryNow);
    this.send();
  }

  disconnect() {
    removeEventListener("online", this.send);
    removeEventListener("offline", this.#offline);
    removeEventListener("focus", this.#retryNow);
    clearTimeout(this.#timer);
  }

  /** `change`: the image's last change on the page, where newer than `seen`. */
  decide(imageId, action, label = null, change = this.seen) {
    const seen = Math.max(change, this.#shownChanges.get(imageId) ?? 0);
    return this.#add("decisions", { image_id: imageId, action, label, seen });
  }

  decideMany(imageIds, action, label = null) {
    return this.#add("decisions/bulk", { image_ids: imageIds, action, label, seen: this.seen });
  }
  decideAll(filter, expected, action, label = null) {
    return this.#add("decisions/bulk", { filter, expected, action, label, seen: this.seen });
  }
  undo() {
    return this.#add("undo", {});
  }
  redo() {
    return this.#add("redo", {});
  }

  get pending() {
    return this.#outbox.all();
  }
  get images() {
    return this.#outbox.images();
  }

  /** Unsettled conflicts with others' decisions, oldest first. */
  get conflicts() {
    return this.#outbox.all("conflict");
  }
  settle(name) {
    this.#outbox.remove(name);
  }

  /** Get JSON from the review's API; throws on failure. */
  async get(path) {
    const reply = await fetch(`${this.#base}/${path}`, {
      headers: { Accept: "application/json" },
    }).catch(() => null);
    if (!reply || reply.status === 401) this.#setState(reply ? "signed-out" : "offline");
    if (!reply?.ok) throw new Error(`${reply?.status ?? "no network"}`);
    if (this.state === "offline" || this.state === "signed-out") this.send();
    return reply.json();
  }

  /** Post a request that decides nothing; throws on failure. */
  async post(path) {
    const reply = await fetch(`${this.#base}/${path}`, {
      method: "POST",
      body: "{}",
      headers: this.#headers,
    }).catch(() => null);
    if (!reply?.ok) throw new Error(`${reply?.status ?? "no network"}`);
    return reply.json();
  }

  #add(path, body) {
    const entry = this.#outbox.add(path, body);
    this.#setState(navigator.onLine ? "saving" : "offline");
    this.send();
    return entry;
  }

  send = () => {
    clearTimeout(this.#timer);
    if (this.#sending) {
      this.#sendAgain = true;
      return this.#sending;
    }
    // One tab at a time: acts made in two tabs keep their order.
    const work = () => this.#sendAll();
    const run = navigator.locks
      ? navigator.locks.request(this.#base, work)
      : Promise.resolve().then(work);
    this.#sending = run.finally(() => {
      this.#sending = null;
      if (this.#sendAgain) {
        this.#sendAgain = false;
        this.send();
      }
    });
    return this.#sending;
  };

  async #sendAll() {
    while (this.pending.length) {
      const [entry] = this.pending;
      if (this.state !== "saving" && this.state !== "signed-out") this.#setState("saving");
      const sent = await this.#sendOne(entry);
      if (!sent) {
        this.#sendAgain = false;
        return this.#retryLater();
      }
    }
    this.#delay = 1000;
    this.#setState("saved");
  }

  async #sendOne(entry) {
    let reply;
    try {
      reply = await fetch(`${this.#base}/${entry.path}?order=${this.order}`, {
        method: "POST",
        body: JSON.stringify(entry.body),
        headers: this.#headers,
        signal: AbortSignal.timeout?.(20_000),
      });
    } catch {
      this.#setState("offline");
      return false;
    }
    if (reply.ok) return this.#finish(entry, "saved", await reply.json());
    if (reply.status === 401) {
      this.#setState("signed-out");
      return false;
    }
    if (reply.status === 408 || reply.status === 429 || reply.status >= 500) {
      this.#setState("offline", { answered: true });
      return false;
    }
    const problem = await reply.json().catch(() => ({}));
    if (problem.image) return this.#conflict(entry, problem);
    return this.#finish(entry, "refused", problem.detail ?? problem.title ?? "That did not work.");
  }

  #finish(entry, event, outcome) {
    this.#outbox.remove(entry.name);
    this.dispatchEvent(new CustomEvent(event, { detail: { entry, outcome } }));
    return true;
  }

  #conflict({ name, body }, { image, detail }) {
    const { image_id: id, action, label } = body;
    // The last of several decisions on one image counts.
    for (const earlier of this.conflicts)
      if (earlier.body.image_id === id) this.settle(earlier.name);
    this.#shownChanges.set(id, image.change);
    this.#outbox.add(
      "conflict",
      { image_id: id, action, label, image, sentence: detail },
      "conflict",
    );
    this.#outbox.remove(name);
    this.dispatchEvent(new CustomEvent("conflict", { detail: { image } }));
    return true;
  }

  #retryLater() {
    this.#timer = setTimeout(this.send, this.#delay);
    this.#delay = Math.min(this.#delay * 2, LONGEST_DELAY);
  }

  #offline = () => this.#setState("offline");
  #retryNow = () => {
    if (this.state !== "saved") this.send();
  };

  /** `answered`: the network works, the server does not. */
  #setState(state, { answered = false } = {}) {
    this.state = state;
    this.dispatchEvent(
      new CustomEvent("state", { detail: { state, answered, count: this.pending.length } }),
    );
  }
}
