// Asks every two seconds, while the page is in view, what anybody decided. Event: changes, with the API's reply and until(promise): what must
// be painted before the page shows these changes, and decisions made on it have seen them.

const EVERY = 2000;

export default class ChangeFeed extends EventTarget {
  #store;
  #since;
  #timer;
  #stopped = false;

  constructor(store, since) {
    super();
    this.#store = store;
    this.#since = store.seen = Number(since);
    document.addEventListener("visibilitychange", this.#ask);
    this.#timer = setTimeout(this.#ask, EVERY);
  }

  disconnect() {
    this.#stopped = true;
    clearTimeout(this.#timer);
    document.removeEventListener("visibilitychange", this.#ask);
  }

  #ask = async () => {
    clearTimeout(this.#timer);
    if (document.visibilityState === "visible" && !this.#stopped) {
      try {
        const reply = await this.#store.get(
          `changes?since=${this.#since}&order=${this.#store.order}`,
        );
        const news = reply.last_change !== this.#since;
        this.#since = reply.last_change;
        if (news && !this.#stopped) await this.#tell(reply);
      } catch {
        /* the store says when the server cannot be reached */
      }
    }
    clearTimeout(this.#timer);
    if (!this.#stopped) this.#timer = setTimeout(this.#ask, EVERY);
  };

  async #tell(reply) {
    const painted = [];
    this.dispatchEvent(
      new CustomEvent("changes", {
        detail: { ...reply, until: (promise) => painted.push(promise) },
      }),
    );
    await Promise.all(painted);
    this.#store.seen = reply.last_change;
  }
}
