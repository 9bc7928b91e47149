// Polls for everyone's decisions while the page is visible. Event: changes, with the API's reply
// and until(promise): the changes count as seen once these promises are kept.

const INTERVAL = 2000; // milliseconds

export default class ChangeFeed extends EventTarget {
  #store;
  #since;
  #timer;
  #stopped = false;

  constructor(store, since) {
    super();
    this.#store = store;
    this.#since = store.seen = Number(since);
    document.addEventListener("visibilitychange", this.#poll);
    this.#timer = setTimeout(this.#poll, INTERVAL);
  }

  disconnect() {
    this.#stopped = true;
    clearTimeout(this.#timer);
    document.removeEventListener("visibilitychange", this.#poll);
  }

  #poll = async () => {
    clearTimeout(this.#timer);
    if (document.visibilityState === "visible" && !this.#stopped) {
      try {
        const reply = await this.#store.get(
          `changes?since=${this.#since}&order=${this.#store.order}`,
        );
        const changed = reply.last_change !== this.#since;
        this.#since = reply.last_change;
        if (changed && !this.#stopped) await this.#dispatch(reply);
      } catch {
        // The store reports an unreachable server.
      }
    }
    clearTimeout(this.#timer);
    if (!this.#stopped) this.#timer = setTimeout(this.#poll, INTERVAL);
  };

  async #dispatch(reply) {
    const pending = [];
    this.dispatchEvent(
      new CustomEvent("changes", {
        detail: { ...reply, until: (promise) => pending.push(promise) },
      }),
    );
    await Promise.all(pending);
    this.#store.seen = reply.last_change;
  }
}
