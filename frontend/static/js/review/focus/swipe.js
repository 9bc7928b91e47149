// A finger decides on the picture: left removes, right keeps, up is unsure. It shows what letting go would do; moved back, it does nothing.

const NEEDED = 88; // pixels until letting go decides
const EDGE = 24; // at the screen's edges the system's own gestures begin
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
    // The browser took the gesture: it scrolls or zooms.
    stage.addEventListener("pointercancel", (event) => this.#end(event), { signal });
    globalThis.visualViewport?.addEventListener("resize", () => this.#still(), { signal });
    this.#still();
  }

  /** While the picture or the page is enlarged, a finger moves it about. */
  get #enlarged() {
    return (
      this.#stage.querySelector("[data-zoomed=yes]") !== null ||
      (globalThis.visualViewport?.scale ?? 1) > 1.01
    );
  }

  #still() {
    this.#stage.classList.toggle("focus__stage--swipes", !this.#enlarged);
  }

  #down(event) {
    if (event.pointerType === "mouse") return;
    this.#fingers.add(event.pointerId);
    const edge = event.clientX < EDGE || event.clientX > innerWidth - EDGE;
    if (this.#fingers.size > 1 || edge || this.#enlarged) this.#drop();
    else this.#start = { id: event.pointerId, x: event.clientX, y: event.clientY };
  }

  #move(event) {
    if (event.pointerId !== this.#start?.id) return;
    const [x, y] = [event.clientX - this.#start.x, event.clientY - this.#start.y];
    const action = direction(x, y);
    const share = Math.min(Math.hypot(x, y) / NEEDED, 1);
    this.#start.action = share === 1 ? action : null;
    this.#show(action, action ? share : 0, x, Math.min(y, 0));
  }

  #up(event) {
    const action = event.pointerId === this.#start?.id ? this.#start.action : null;
    this.#end(event);
    if (action) this.#decide(action);
  }

  #end(event) {
    this.#fingers.delete(event.pointerId);
    this.#drop();
  }

  #drop() {
    this.#start = null;
    this.#show(null, 0, 0, 0);
  }

  #show(action, share, x, y) {
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

function direction(x, y) {
  if (Math.abs(x) > 1.3 * Math.abs(y)) return x < 0 ? "remove" : "keep";
  return -y > 1.3 * Math.abs(x) ? "unsure" : null;
}
