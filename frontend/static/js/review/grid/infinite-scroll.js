// A view that scrolls instead of leafing: what comes next is fetched ahead, page by page, and put behind the last tile.
import { announce, part } from "../page-parts.js";

const AHEAD = "2500px";
const MOST = 5_000; // then a link leads on: a page has an end
const AGAIN = 3_000;
const STILL = 250;

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
    history.scrollRestoration = "manual"; // the address says where one was
    this.#observer = new IntersectionObserver(([entry]) => this.#seen(entry.isIntersecting), {
      rootMargin: AHEAD,
    });
    this.#observer.observe(part(root, "pages"));
    addEventListener("scroll", () => this.#moved(), { signal, passive: true });
    // Another width, or another size of the tiles.
    this.#sizes = new ResizeObserver(() => this.#tiles.sync());
    this.#sizes.observe(part(root, "tiles"));
  }

  disconnect() {
    this.#observer.disconnect();
    this.#sizes.disconnect();
    clearTimeout(this.#timer);
  }

  get more() {
    return Boolean(part(this.#root, "following")) && this.#tiles.ids.length < MOST;
  }

  /** Put the next ones behind the last; true once they are there. */
  load() {
    this.#loading ??= this.#fetch().finally(() => {
      this.#loading = null;
    });
    return this.#loading;
  }

  async #seen(near) {
    this.#near = near;
    while (this.#near && this.more) if (!(await this.load())) return;
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
        if (this.#near) this.#seen(true);
      }, AGAIN);
      return false;
    }
  }

  #add(page, found) {
    this.#tiles.add(found);
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

  /** The address keeps the place: a reload, a link or the way back leads to the first tile that was in sight. */
  #moved() {
    this.#tiles.sync();
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      const address = new URL(location.href);
      const rank = this.#tiles.firstInSight();
      if (!rank || scrollY === 0) return;
      address.searchParams.delete("before");
      address.searchParams.set("after", rank - 1);
      history.replaceState(history.state, "", address);
    }, STILL);
  }
}
