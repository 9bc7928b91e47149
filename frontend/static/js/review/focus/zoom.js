// Look closer: zoom by wheel, button, key, double click or two fingers, and move about by dragging. A new image is shown whole again.
import { part } from "../page-parts.js";

const CLOSEST = 12;
const STEP = 1.5;
// Above so many screen pixels for one of the image, its pixels are shown as they are rather than smoothed.
const SHARP = 3;

export default class Zoom {
  #window;
  #image;
  #words;
  #scale = 1;
  #x = 0;
  #y = 0;
  #fingers = new Map();

  constructor(root, signal) {
    this.#window = part(root, "window");
    this.#image = part(root, "image");
    const bar = part(root, "zoom");
    this.#words = bar.querySelector("output");
    bar.hidden = false;
    const acts = { in: () => this.by(STEP), out: () => this.by(1 / STEP), fit: () => this.fit() };
    bar.addEventListener("click", (event) => acts[event.target.closest("button")?.value]?.(), {
      signal,
    });
    this.#window.addEventListener("wheel", (event) => this.#wheel(event), {
      signal,
      passive: false,
    });
    this.#window.addEventListener(
      "dblclick",
      (event) => (this.zoomed ? this.fit() : this.by(STEP * STEP, event)),
      { signal },
    );
    for (const name of ["pointerdown", "pointermove", "pointerup", "pointercancel"]) {
      this.#window.addEventListener(name, (event) => this.#pointer(event), { signal });
    }
    this.fit();
  }

  get zoomed() {
    return this.#scale > 1;
  }

  /** Show the whole image. */
  fit() {
    this.#scale = 1;
    this.#place(0, 0);
  }

  /** Zoom by a factor, keeping the point under the event (else the middle) where it is. */
  by(factor, event = null) {
    const box = this.#window.getBoundingClientRect();
    const [px, py] = event
      ? [event.clientX - box.left, event.clientY - box.top]
      : [box.width / 2, box.height / 2];
    const scale = Math.min(Math.max(this.#scale * factor, 1), CLOSEST);
    const grown = scale / this.#scale;
    this.#scale = scale;
    this.#place(px - (px - this.#x) * grown, py - (py - this.#y) * grown);
  }

  /** Move what is seen by a part of the window, right and down. */
  pan(right, down) {
    const { width, height } = this.#window.getBoundingClientRect();
    this.#place(this.#x - (right * width) / 4, this.#y - (down * height) / 4);
  }

  #place(x, y) {
    const { width, height } = this.#window.getBoundingClientRect();
    // No edge of the image comes inside the window.
    this.#x = Math.min(0, Math.max(x, width * (1 - this.#scale)));
    this.#y = Math.min(0, Math.max(y, height * (1 - this.#scale)));
    const { style, naturalWidth, naturalHeight, classList } = this.#image;
    style.transform = this.zoomed
      ? `translate(${this.#x}px, ${this.#y}px) scale(${this.#scale})`
      : "";
    const shown =
      this.#scale * Math.min(width / (naturalWidth || 1), height / (naturalHeight || 1));
    classList.toggle("focus__image--close", this.zoomed && shown >= SHARP);
    this.#window.dataset.zoomed = this.zoomed ? "yes" : "";
    this.#words.textContent = this.zoomed ? `${this.#scale.toFixed(1)} ×` : "";
  }

  #wheel(event) {
    const closer = event.deltaY < 0;
    // Where the picture is whole, or the page has to go back up first, the wheel is the page's.
    if (!event.ctrlKey && !this.zoomed && (!closer || scrollY > 0)) return;
    event.preventDefault();
    this.by(Math.exp(-Math.max(-60, Math.min(60, event.deltaY)) / 200), event);
  }

  #pointer(event) {
    if (event.type === "pointerup" || event.type === "pointercancel")
      return void this.#fingers.delete(event.pointerId);
    const before = this.#fingers.get(event.pointerId);
    if (event.type === "pointerdown") {
      if (event.button !== 0) return undefined;
      this.#fingers.set(event.pointerId, event);
      if (this.zoomed || this.#fingers.size > 1) this.#window.setPointerCapture(event.pointerId);
      return undefined;
    }
    if (!before) return undefined;
    const apart = this.#apart();
    this.#fingers.set(event.pointerId, event);
    if (this.#fingers.size > 1) this.by(this.#apart() / apart, middle([...this.#fingers.values()]));
    else if (this.zoomed)
      this.#place(
        this.#x + event.clientX - before.clientX,
        this.#y + event.clientY - before.clientY,
      );
    return undefined;
  }

  #apart() {
    const [one, other] = [...this.#fingers.values()];
    return other ? Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY) || 1 : 1;
  }
}

function middle([one, other]) {
  return { clientX: (one.clientX + other.clientX) / 2, clientY: (one.clientY + other.clientY) / 2 };
}
