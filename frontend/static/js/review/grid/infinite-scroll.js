// Scrolling instead of pages: the next page's tiles are fetched early and appended.
import { part } from "../page-parts.js";
import { announce } from "../status-line.js";

const MARGIN = "2500px"; // how early the next page is fetched
const MOST_TILES = 5_000; // then a link leads to the next page
const RETRY_AFTER = 3_000; // milliseconds
const SETTLE_AFTER = 250; // milliseconds without scrolling

export default class InfiniteScroll extends EventTarget {
  #root;
  #tiles;
  #loading = null;
  #near = false;
  #timer;
  #observer;
  #sizes;

  constructor(root, tiles, signal) {
    super();
    this.#root = root;
    this.#tiles = tiles;
    history.scrollRestoration = "manual"; // the address keeps the place
    this.#observer = new IntersectionObserver(([entry]) => this.#approach(entry.isIntersecting), {
      rootMargin: MARGIN,
    });
    this.#observer.observe(part(root, "pages"));
    addEventListener("scroll", () => this.#saveScroll(), { signal, passive: true });
    this.#sizes = new ResizeObserver(() => this.#tiles.sync());
    this.#sizes.observe(part(root, "tiles"));
  }

  disconnect() {
    this.#observer.disconnect();
    this.#sizes.disconnect();
    clearTimeout(this.#timer);
  }

  get hasMore() {
    return Boolean(part(this.#root, "following")) && this.#tiles.ids.length < MOST_TILES;
  }

  /** Append the next page's tiles; true once they are there. */
  load() {
    this.#loading ??= this.#fetch().finally(() => {
      this.#loading = null;
    });
    return this.#loading;
  }

  async #approach(near) {
    this.#near = near;
    while (this.#near && this.hasMore) if (!(await this.load())) return;
  }

  async #fetch() {
    const following = part(this.#root, "following");
    try {
      const reply = await fetch(following.href, { headers: { Accept: "text/html" } });
      const page = new DOMParser().parseFromString(await reply.text(), "text/html");
      const list = page.querySelector('[data-part="tiles"]');
      if (!reply.ok || !list) throw new Error(String(reply.status));
      this.#add(page, [...list.children]);
      return true;
    } catch {
      announce(
        this.#root,
        "More images cannot be loaded now. They come when the connection is back.",
      );
      setTimeout(() => {
        if (this.#near) this.#approach(true);
      }, RETRY_AFTER);
      return false;
    }
  }

  #add(page, tiles) {
    this.#tiles.add(tiles);
    const [here, there] = [
      part(this.#root, "following"),
      page.querySelector('[data-part="following"]'),
    ];
    if (there) here.href = there.getAttribute("href");
    else here.remove();
    part(this.#root, "last-rank").textContent =
      page.querySelector('[data-part="last-rank"]').textContent;
    this.dispatchEvent(new Event("more"));
  }

  /** Keep the first visible tile in the address, for reloads, links and the way back. */
  #saveScroll() {
    this.#tiles.sync();
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      const address = new URL(location.href);
      const rank = this.#tiles.firstInSight();
      if (!rank || scrollY === 0) return;
      address.searchParams.delete("before");
      address.searchParams.set("after", rank - 1);
      history.replaceState(history.state, "", address);
    }, SETTLE_AFTER);
  }
}
