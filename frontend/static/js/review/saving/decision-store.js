// Sends acts one after the other and says how it goes: saved, saving, offline or signed-out. Events: state, saved, refused, conflict.
// Each decision says which change its maker had seen last, so that nobody overwrites what they have not seen.
import Outbox from "./outbox.js";

const LONGEST_WAIT = 15_000;

export default class DecisionStore extends EventTarget {
  #base;
  #user;
  #outbox;
  #sending = null;
  #timer;
  #wait = 1000;
  #token;
  #again = false;
  #shown = new Map();
  state = "saved";
  seen = 0; // the number of the last change that the page shows

  constructor({ review, user, order }) {
    super();
    this.#base = `/api/v1/reviews/${review}`;
    this.#user = user;
    this.order = order;
    this.#outbox = new Outbox(review, user);
    this.#token = document.querySelector("meta[name=csrf-token]")?.content ?? "";
    addEventListener("online", this.send);
    addEventListener("offline", this.#offline);
    // Back from signing in, in another tab.
    addEventListener("focus", this.#retry);
    this.send();
  }

  disconnect() {
    removeEventListener("online", this.send);
    removeEventListener("offline", this.#offline);
    removeEventListener("focus", this.#retry);
    clearTimeout(this.#timer);
  }

  /** change: the number of the decision that the page shows for this image, where it knows that better than `seen`. */
  decide(imageId, action, label = null, change = this.seen) {
    const seen = Math.max(change, this.#shown.get(imageId) ?? 0);
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

  /** What others decided otherwise meanwhile, oldest first, until one has said which decision shall stand. */
  get conflicts() {
    return this.#outbox.all("conflict");
  }
  settle(name) {
    this.#outbox.remove(name);
  }

  /** JSON from the review's API; throws when it cannot be had. */
  async get(path) {
    const reply = await fetch(`${this.#base}/${path}`, {
      headers: { Accept: "application/json" },
    }).catch(() => null);
    if (!reply || reply.status === 401) this.#say(reply ? "signed-out" : "offline");
    if (!reply?.ok) throw new Error(`${reply?.status ?? "no network"}`);
    if (this.state === "offline" || this.state === "signed-out") this.send();
    return reply.json();
  }

  /** Ask the review's API for something that changes no decision; throws when that fails. */
  async post(path) {
    const headers = {
      "Content-Type": "application/json",
      Accept: "application/json",
      "X-CSRF-Token": this.#token,
    };
    const reply = await fetch(`${this.#base}/${path}`, {
      method: "POST",
      body: "{}",
      headers,
    }).catch(() => null);
    if (!reply?.ok) throw new Error(`${reply?.status ?? "no network"}`);
    return reply.json();
  }

  #add(path, body) {
    const entry = this.#outbox.add(path, body);
    this.#say(navigator.onLine ? "saving" : "offline");
    this.send();
    return entry;
  }

  send = () => {
    clearTimeout(this.#timer);
    if (this.#sending) {
      this.#again = true;
      return this.#sending;
    }
    // One tab at a time, so that acts made in two tabs keep their order.
    const work = () => this.#drain();
    const run = navigator.locks
      ? navigator.locks.request(this.#base, work)
      : Promise.resolve().then(work);
    this.#sending = run.finally(() => {
      this.#sending = null;
      if (this.#again) {
        this.#again = false;
        this.send();
      }
    });
    return this.#sending;
  };

  async #drain() {
    while (this.pending.length) {
      const [entry] = this.pending;
      if (this.state !== "saving" && this.state !== "signed-out") this.#say("saving");
      const done = await this.#post(entry);
      if (!done) {
        this.#again = false;
        return this.#later();
      }
    }
    this.#wait = 1000;
    this.#say("saved");
  }

  async #post(entry, renewed = false) {
    let reply;
    try {
      reply = await fetch(`${this.#base}/${entry.path}?order=${this.order}`, {
        method: "POST",
        body: JSON.stringify(entry.body),
        headers: {
          "Content-Type": "application/json",
          Accept: "application/json",
          "X-CSRF-Token": this.#token,
        },
        signal: AbortSignal.timeout?.(20_000),
      });
    } catch {
      this.#say("offline");
      return false;
    }
    if (reply.ok) return this.#finish(entry, "saved", await reply.json());
    if ((reply.status === 401 || reply.status === 403) && !renewed) {
      // The session may be a new one (signed in again in another tab): with its token the act goes through.
      const ready = await this.#renew();
      if (ready) return this.#post(entry, true);
    }
    if (reply.status === 401) {
      this.#say("signed-out");
      return false;
    }
    if (reply.status === 408 || reply.status === 429 || reply.status >= 500) {
      this.#say("offline", { answered: true });
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
    // Of several decisions on one image the last one counts.
    for (const earlier of this.conflicts)
      if (earlier.body.image_id === id) this.settle(earlier.name);
    this.#shown.set(id, image.change);
    this.#outbox.add(
      "conflict",
      { image_id: id, action, label, image, sentence: detail },
      "conflict",
    );
    this.#outbox.remove(name);
    this.dispatchEvent(new CustomEvent("conflict", { detail: { image } }));
    return true;
  }

  /** Fetch this page anew for its token; only when the same person is signed in. */
  async #renew() {
    try {
      const reply = await fetch(location.href, { headers: { Accept: "text/html" } });
      const page = new DOMParser().parseFromString(await reply.text(), "text/html");
      const user = page.querySelector("[data-user]")?.dataset.user;
      if (!reply.ok || user !== this.#user) return false;
      this.#token = page.querySelector("meta[name=csrf-token]")?.content ?? "";
      return true;
    } catch {
      return false;
    }
  }

  #later() {
    this.#timer = setTimeout(this.send, this.#wait);
    this.#wait = Math.min(this.#wait * 2, LONGEST_WAIT);
  }

  #offline = () => this.#say("offline");
  #retry = () => {
    if (this.state !== "saved") this.send();
  };

  /** answered: what cannot take the acts now is the server, not the network. */
  #say(state, { answered = false } = {}) {
    this.state = state;
    this.dispatchEvent(
      new CustomEvent("state", { detail: { state, answered, count: this.pending.length } }),
    );
  }
}
