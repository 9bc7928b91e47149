// Acts that the server has not confirmed yet, and conflicts that nobody has settled yet, in order, in localStorage: a reload, a crash or a
// dead network loses none.

export function randomKey() {
  if (crypto.randomUUID) return crypto.randomUUID();
  // randomUUID is there only on https and on this machine's own address; getRandomValues is there everywhere.
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) =>
    byte.toString(16).padStart(2, "0"),
  ).join("");
}

export default class Outbox {
  #prefix;
  #count = 0;
  #memory = new Map(); // where the browser gives no storage

  constructor(review, user) {
    this.#prefix = (kind) => `winnow:${kind}:${review}:${user}:`;
  }

  add(path, body, kind = "outbox") {
    const name = `${this.#prefix(kind)}${String(Date.now()).padStart(15, "0")}:${String(this.#count++).padStart(6, "0")}`;
    const entry = { path, body: { ...body, client_key: randomKey() } };
    try {
      localStorage.setItem(name, JSON.stringify(entry));
    } catch {
      this.#memory.set(name, entry);
    }
    return { name, ...entry };
  }

  remove(name) {
    this.#memory.delete(name);
    try {
      localStorage.removeItem(name);
    } catch {
      /* no storage: it was in memory */
    }
  }

  all(kind = "outbox") {
    const prefix = this.#prefix(kind);
    const entries = [...this.#memory]
      .filter(([name]) => name.startsWith(prefix))
      .map(([name, entry]) => ({ name, ...entry }));
    try {
      for (const name of Object.keys(localStorage)) {
        if (name.startsWith(prefix))
          entries.push({ name, ...JSON.parse(localStorage.getItem(name)) });
      }
    } catch {
      /* no storage: only what is in memory */
    }
    return entries.sort((one, other) => (one.name < other.name ? -1 : 1));
  }

  /** Image ids with an act under way: what others report about them is older than what stands here. */
  images() {
    return new Set(
      this.all().flatMap(({ body }) => body.image_ids ?? (body.image_id ? [body.image_id] : [])),
    );
  }
}
