// Zoom by wheel, button, key, double click or two fingers; drag to move about.
import { part } from "../page-parts.js";

const MAX_SCALE = 12;
const STEP = 1.5;
const PIXELATED_FROM = 3; // screen pixels for one of the image

export default class Zoom {
  #window;
  #image;
  #output;
  #scale = 1;
  #x = 0;
  #y = 0;
  #fingers = new Map();

  constructor(root, signal) {
    this.#window = part(root, "window");
    this.#image = part(root, "image");
    const bar = part(root, "zoom");
    this.#output = bar.querySelector("output");
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
    this.#moveTo(0, 0);
  }

  /** Zoom by a factor around the event's point, or the middle. */
  by(factor, event = null) {
    const box = this.#window.getBoundingClientRect();
    const [px, py] = event
      ? [event.clientX - box.left, event.clientY - box.top]
      : [box.width / 2, box.height / 2];
    const scale = Math.min(Math.max(this.#scale * factor, 1), MAX_SCALE);
    const ratio = scale / this.#scale;
    this.#scale = scale;
    this.#moveTo(px - (px - this.#x) * ratio, py - (py - this.#y) * ratio);
  }

  /** Move the view by quarters of the window, right and down. */
  pan(right, down) {
    const { width, height } = this.#window.getBoundingClientRect();
    this.#moveTo(this.#x - (right * width) / 4, this.#y - (down * height) / 4);
  }

  #moveTo(x, y) {
    const { width, height } = this.#window.getBoundingClientRect();
    // The image's edges stay outside the window.
    this.#x = Math.min(0, Math.max(x, width * (1 - this.#scale)));
    this.#y = Math.min(0, Math.max(y, height * (1 - this.#scale)));
    const { style, naturalWidth, naturalHeight, classList } = this.#image;
    style.transform = this.zoomed
      ? `translate(${this.#x}px, ${this.#y}px) scale(${this.#scale})`
      : "";
    const magnification =
      this.#scale * Math.min(width / (naturalWidth || 1), height / (naturalHeight || 1));
    classList.toggle("focus__image--close", this.zoomed && magnification >= PIXELATED_FROM);
    this.#window.dataset.zoomed = this.zoomed ? "yes" : "";
    this.#output.textContent = this.zoomed ? `${this.#scale.toFixed(1)} ×` : "";
  }

  #wheel(event) {
    const closer = event.deltaY < 0;
    // With the whole picture in view, or while the page can scroll up, the wheel is the page's.
    if (!event.ctrlKey && !this.zoomed && (!closer || scrollY > 0)) return;
    event.preventDefault();
    this.by(Math.exp(-Math.max(-60, Math.min(60, event.deltaY)) / 200), event);
  }

  #pointer(event) {
    if (event.type === "pointerup" || event.type === "pointercancel")
      return void this.#fingers.delete(event.pointerId);
    const previous = this.#fingers.get(event.pointerId);
    if (event.type === "pointerdown") {
      if (event.button !== 0) return undefined;
      this.#fingers.set(event.pointerId, event);
      if (this.zoomed || this.#fingers.size > 1) this.#window.setPointerCapture(event.pointerId);
      return undefined;
    }
    if (!previous) return undefined;
    const before = this.#distance();
    this.#fingers.set(event.pointerId, event);
    if (this.#fingers.size > 1)
      this.by(this.#distance() / before, midpoint([...this.#fingers.values()]));
    else if (this.zoomed)
      this.#moveTo(
        this.#x + event.clientX - previous.clientX,
        this.#y + event.clientY - previous.clientY,
      );
    return undefined;
  }

  #distance() {
    const [one, other] = [...this.#fingers.values()];
    return other ? Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY) || 1 : 1;
  }
}

function midpoint([one, other]) {
  return { clientX: (one.clientX + other.clientX) / 2, clientY: (one.clientY + other.clientY) / 2 };
}
