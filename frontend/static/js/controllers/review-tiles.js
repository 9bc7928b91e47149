// The tiles of a page: where the cursor is, which are selected, and what is decided. Event: selection.
import { decisionWords, part } from "./review-paint.js";

const boxOf = (tile) => tile.querySelector("input[type=checkbox]");
const linkOf = (tile) => tile.querySelector(".tile__link");

export default class Tiles extends EventTarget {
  #list; #all; #user; #here = null; #anchor = null; #before = null;

  constructor(list, user) {
    super();
    this.#list = list;
    this.#user = user;
    this.#all = list ? [...list.children] : [];
    // One stop for the Tab key; arrows move inside.
    for (const tile of this.#all) linkOf(tile).tabIndex = boxOf(tile).tabIndex = -1;
    this.go(this.nextUndecided() ?? this.#all[0], { focus: false });
  }

  get here() { return this.#here; }
  get ids() { return this.#all.map((tile) => Number(tile.dataset.image)); }
  get selected() { return this.#all.filter((tile) => boxOf(tile).checked); }
  of(imageId) { return this.#all.find((tile) => tile.dataset.image === String(imageId)); }
  undecided() { return this.#all.filter((tile) => !tile.dataset.decision); }
  all() { return [...this.#all]; }

  /** The first undecided one behind a tile, else the first of all; null when all are decided. */
  nextUndecided(tile = null) {
    const free = this.undecided();
    return free.find((one) => !tile || this.#all.indexOf(one) > this.#all.indexOf(tile)) ?? free[0] ?? null;
  }

  /** Put the cursor on a tile. */
  go(tile, { focus = true } = {}) {
    if (!tile) return;
    if (this.#here) { this.#here.classList.remove("tile--here"); linkOf(this.#here).tabIndex = -1; }
    this.#here = tile;
    tile.classList.add("tile--here");
    linkOf(tile).tabIndex = 0;
    if (!focus) return;
    linkOf(tile).focus({ preventScroll: true });
    tile.scrollIntoView({ block: "nearest" });
  }

  /** Move the cursor by tiles or, with `rows`, by rows; `extend` selects from where the range began. */
  step(by, { rows = false, extend = false } = {}) {
    if (!this.#here) return;
    const from = this.#all.indexOf(this.#here);
    const to = from + by * (rows ? this.#columns() : 1);
    const there = this.#all[to] ?? this.#here;
    if (extend) this.#extend(there);
    else this.#before = null;
    this.go(there);
  }

  open() { if (this.#here) linkOf(this.#here).click(); }

  /** Whether the cursor's picture can be seen: nothing is decided that nobody saw. */
  hereVisible() {
    const box = linkOf(this.#here).getBoundingClientRect();
    return box.bottom > 0 && box.top < innerHeight;
  }

  toggle(tile = this.#here) {
    if (!tile) return;
    boxOf(tile).checked = !boxOf(tile).checked;
    this.touched(tile);
  }

  /** A box was ticked or cleared: ranges begin here, and so does the cursor. */
  touched(tile) {
    this.#anchor = tile;
    this.#before = null;
    this.go(tile, { focus: false });
    this.#changed();
  }

  /** Select from the last tile that was touched to this one. */
  rangeTo(tile) {
    this.#extend(tile);
    this.go(tile);
  }

  select(tiles) {
    for (const tile of this.#all) boxOf(tile).checked = false;
    for (const tile of tiles) boxOf(tile).checked = true;
    this.#anchor = this.#before = null;
    this.#changed();
  }

  paint(tile, decision) {
    if (!tile) return;
    tile.dataset.decision = decision?.action ?? "";
    part(tile, "decision").textContent = decisionWords(decision, this.#user);
  }

  #extend(tile) {
    if (!this.#before) {
      this.#anchor ??= this.#here;
      this.#before = new Set(this.selected);
    }
    const [first, last] = [this.#anchor, tile].map((one) => this.#all.indexOf(one)).sort((one, other) => one - other);
    this.#all.forEach((one, place) => { boxOf(one).checked = (place >= first && place <= last) || this.#before.has(one); });
    this.#changed();
  }

  #columns() {
    const top = this.#all[0].offsetTop;
    const next = this.#all.findIndex((tile) => tile.offsetTop > top);
    return next < 0 ? this.#all.length : next;
  }

  #changed() { this.dispatchEvent(new Event("selection")); }
}
