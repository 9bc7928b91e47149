// Decide by finger: left removes, right keeps, up is unsure.

const DISTANCE = 88; // pixels of a swipe that decides
const EDGE = 24; // pixels at the screen's sides, where the system's own gestures begin
const WORDS = { remove: "Remove", keep: "Keep", unsure: "Unsure" };

export default class Swipe {
  #stage;
  #decide;
  #fingers = new Set();
  #start = null;

  constructor(stage, decide, signal) {
    this.#stage = stage;
    this.#decide = decide;
    stage.addEventListener("pointerdown", (event) => this.#down(event), { signal });
    stage.addEventListener("pointermove", (event) => this.#move(event), { signal });
    stage.addEventListener("pointerup", (event) => this.#up(event), { signal });
    // The browser scrolls or zooms instead.
    stage.addEventListener("pointercancel", (event) => this.#end(event), { signal });
    globalThis.visualViewport?.addEventListener("resize", () => this.#update(), { signal });
    this.#update();
  }

  /** True while a finger moves the enlarged picture or page about. */
  get #enlarged() {
    return (
      this.#stage.querySelector("[data-zoomed=yes]") !== null ||
      (globalThis.visualViewport?.scale ?? 1) > 1.01
    );
  }

  #update() {
    this.#stage.classList.toggle("focus__stage--swipes", !this.#enlarged);
  }

  #down(event) {
    if (event.pointerType === "mouse") return;
    this.#fingers.add(event.pointerId);
    const edge = event.clientX < EDGE || event.clientX > innerWidth - EDGE;
    if (this.#fingers.size > 1 || edge || this.#enlarged) this.#reset();
    else this.#start = { id: event.pointerId, x: event.clientX, y: event.clientY };
  }

  #move(event) {
    if (event.pointerId !== this.#start?.id) return;
    const [x, y] = [event.clientX - this.#start.x, event.clientY - this.#start.y];
    const action = findAction(x, y);
    const share = Math.min(Math.hypot(x, y) / DISTANCE, 1);
    this.#start.action = share === 1 ? action : null;
    this.#paint(action, action ? share : 0, x, Math.min(y, 0));
  }

  #up(event) {
    const action = event.pointerId === this.#start?.id ? this.#start.action : null;
    this.#end(event);
    if (action) this.#decide(action);
  }

  #end(event) {
    this.#fingers.delete(event.pointerId);
    this.#reset();
  }

  #reset() {
    this.#start = null;
    this.#paint(null, 0, 0, 0);
  }

  #paint(action, share, x, y) {
    const { dataset, style } = this.#stage;
    dataset.decision = action ?? "";
    dataset.swipe = WORDS[action] ?? "";
    dataset.armed = share === 1 ? "yes" : "";
    for (const [name, value] of Object.entries({
      "--swipe-x": `${x}px`,
      "--swipe-y": `${y}px`,
      "--swipe-share": share,
    }))
      style.setProperty(name, value);
  }
}

function findAction(x, y) {
  if (Math.abs(x) > 1.3 * Math.abs(y)) return x < 0 ? "remove" : "keep";
  return -y > 1.3 * Math.abs(x) ? "unsure" : null;
}
