// Unconfirmed acts and unsettled conflicts, in order, in localStorage: no reload, crash or dead
// network loses any.

export function createKey() {
  if (crypto.randomUUID) return crypto.randomUUID();
  // randomUUID needs https or localhost.
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) =>
    byte.toString(16).padStart(2, "0"),
  ).join("");
}

const pad = (value, length) => String(value).padStart(length, "0");

export default class Outbox {
  #prefix;
  #count = 0;
  #memory = new Map(); // for browsers without storage

  constructor(review, user) {
    this.#prefix = (kind) => `winnow:${kind}:${review}:${user}:`;
  }

  add(path, body, kind = "outbox") {
    const [time, count] = [pad(Date.now(), 15), pad(this.#count++, 6)];
    const name = `${this.#prefix(kind)}${time}:${count}`;
    const entry = { path, body: { ...body, client_key: createKey() } };
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
      // Without storage it was in memory.
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
      // Without storage there is only the memory.
    }
    return entries.sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** Images with an unconfirmed act: what the server reports of them is older. */
  images() {
    return new Set(
      this.all().flatMap(({ body }) => body.image_ids ?? (body.image_id ? [body.image_id] : [])),
    );
  }
}
