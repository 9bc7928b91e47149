// Selecting with the mouse: a band drawn over the tiles takes what it touches; with Shift or Ctrl it adds to what is selected.

const FROM = 6; // pixels until a press becomes a band
const EDGE = 48; // near the window's edge the page scrolls along

export default class DragSelection {
  #list;
  #tiles;
  #start = null;
  #box = null;
  #at = null;
  #before = [];
  #frame = 0;
  #dragged = false;

  constructor(list, tiles, signal) {
    this.#list = list;
    this.#tiles = tiles;
    list.addEventListener("pointerdown", (event) => this.#down(event), { signal });
    // A picture's link must not be dragged away, nor followed by the click at a band's end.
    list.addEventListener("dragstart", (event) => event.preventDefault(), { signal });
    list.addEventListener("click", (event) => this.#click(event), { signal, capture: true });
    addEventListener("pointermove", (event) => this.#move(event), { signal });
    addEventListener("pointerup", () => this.#end(), { signal });
    addEventListener("blur", () => this.#end(), { signal });
    document.addEventListener("keydown", (event) => this.#key(event), { signal, capture: true });
  }

  #down(event) {
    this.#dragged = false;
    if (event.pointerType !== "mouse" || event.button !== 0) return;
    const adds = event.shiftKey || event.ctrlKey || event.metaKey;
    this.#start = { x: event.pageX, y: event.pageY, adds };
  }

  #move(event) {
    if (!this.#start) return;
    this.#at = { x: event.clientX, y: event.clientY };
    if (!this.#box && Math.hypot(event.pageX - this.#start.x, event.pageY - this.#start.y) < FROM)
      return;
    if (!this.#box) this.#begin();
    if (!this.#frame) this.#frame = requestAnimationFrame(() => this.#draw());
  }

  #begin() {
    this.#dragged = true;
    this.#before = this.#tiles.selected;
    this.#box = Object.assign(document.createElement("div"), { className: "tiles__band" });
    this.#list.classList.add("tiles--banding");
    document.body.append(this.#box);
  }

  #draw() {
    this.#frame = 0;
    if (!this.#box) return;
    this.#scroll();
    const [x, y] = [this.#at.x + scrollX, this.#at.y + scrollY];
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
    this.#tiles.select([...(this.#start.adds ? this.#before : []), ...this.#tiles.under(band)]);
  }

  #scroll() {
    const by = this.#at.y < EDGE ? this.#at.y - EDGE : Math.max(0, this.#at.y - innerHeight + EDGE);
    if (!by) return;
    const before = scrollY;
    scrollBy(0, by / 3);
    if (scrollY !== before) this.#frame = requestAnimationFrame(() => this.#draw());
  }

  #end() {
    if (this.#box && this.#frame) {
      cancelAnimationFrame(this.#frame);
      this.#draw();
    }
    this.#stop();
  }

  #stop() {
    cancelAnimationFrame(this.#frame);
    this.#box?.remove();
    this.#list.classList.remove("tiles--banding");
    this.#start = this.#box = null;
    this.#frame = 0;
  }

  /** Esc takes the band away, and with it what it selected. */
  #key(event) {
    if (event.key !== "Escape" || !this.#box) return;
    event.stopImmediatePropagation();
    event.preventDefault();
    this.#tiles.select(this.#before);
    this.#stop();
  }

  #click(event) {
    if (!this.#dragged) return;
    this.#dragged = false;
    event.preventDefault();
    event.stopPropagation();
  }
}
