// Selecting with the mouse: a band selects the tiles under it; Shift or Ctrl adds to the selection.

const THRESHOLD = 6; // pixels until a press becomes a band
const EDGE = 48; // pixels from the window's edge where the page scrolls

export default class DragSelection {
  #list;
  #tiles;
  #start = null;
  #box = null;
  #pointer = null;
  #selectedBefore = [];
  #frame = 0;
  #dragged = false;

  constructor(list, tiles, signal) {
    this.#list = list;
    this.#tiles = tiles;
    list.addEventListener("pointerdown", (event) => this.#press(event), { signal });
    // No link is dragged away, or followed by the click at the band's end.
    list.addEventListener("dragstart", (event) => event.preventDefault(), { signal });
    list.addEventListener("click", (event) => this.#click(event), { signal, capture: true });
    addEventListener("pointermove", (event) => this.#move(event), { signal });
    addEventListener("pointerup", () => this.#release(), { signal });
    addEventListener("blur", () => this.#release(), { signal });
    document.addEventListener("keydown", (event) => this.#key(event), { signal, capture: true });
  }

  #press(event) {
    this.#dragged = false;
    if (event.pointerType !== "mouse" || event.button !== 0) return;
    const adds = event.shiftKey || event.ctrlKey || event.metaKey;
    this.#start = { x: event.pageX, y: event.pageY, adds };
  }

  #move(event) {
    if (!this.#start) return;
    this.#pointer = { x: event.clientX, y: event.clientY };
    if (
      !this.#box &&
      Math.hypot(event.pageX - this.#start.x, event.pageY - this.#start.y) < THRESHOLD
    )
      return;
    if (!this.#box) this.#begin();
    if (!this.#frame) this.#frame = requestAnimationFrame(() => this.#draw());
  }

  #begin() {
    this.#dragged = true;
    this.#selectedBefore = this.#tiles.selected;
    this.#box = Object.assign(document.createElement("div"), { className: "tiles__band" });
    this.#list.classList.add("tiles--banding");
    document.body.append(this.#box);
  }

  #draw() {
    this.#frame = 0;
    if (!this.#box) return;
    this.#scroll();
    const [x, y] = [this.#pointer.x + scrollX, this.#pointer.y + scrollY];
    const band = {
      left: Math.min(x, this.#start.x),
      top: Math.min(y, this.#start.y),
      right: Math.max(x, this.#start.x),
      bottom: Math.max(y, this.#start.y),
    };
    const sizes = {
      left: band.left,
      top: band.top,
      width: band.right - band.left,
      height: band.bottom - band.top,
    };
    for (const [name, value] of Object.entries(sizes))
      this.#box.style.setProperty(name, `${value}px`);
    this.#tiles.select([
      ...(this.#start.adds ? this.#selectedBefore : []),
      ...this.#tiles.findUnder(band),
    ]);
  }

  #scroll() {
    const by =
      this.#pointer.y < EDGE
        ? this.#pointer.y - EDGE
        : Math.max(0, this.#pointer.y - innerHeight + EDGE);
    if (!by) return;
    const before = scrollY;
    scrollBy(0, by / 3);
    if (scrollY !== before) this.#frame = requestAnimationFrame(() => this.#draw());
  }

  #release() {
    if (this.#box && this.#frame) {
      cancelAnimationFrame(this.#frame);
      this.#draw();
    }
    this.#remove();
  }

  #remove() {
    cancelAnimationFrame(this.#frame);
    this.#box?.remove();
    this.#list.classList.remove("tiles--banding");
    this.#start = this.#box = null;
    this.#frame = 0;
  }

  /** Esc removes the band and restores the selection. */
  #key(event) {
    if (event.key !== "Escape" || !this.#box) return;
    event.stopImmediatePropagation();
    event.preventDefault();
    this.#tiles.select(this.#selectedBefore);
    this.#remove();
  }

  #click(event) {
    if (!this.#dragged) return;
    this.#dragged = false;
    event.preventDefault();
    event.stopPropagation();
  }
}
