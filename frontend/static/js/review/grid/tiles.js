// The tiles of a page: where the cursor is, which are selected, and what is decided. Event: selection.
import { decisionWords, part } from "../page-parts.js";
import TileRows from "./tile-rows.js";

const boxOf = (tile) => tile.querySelector("input[type=checkbox]");
const linkOf = (tile) => tile.querySelector(".tile__link");

export default class Tiles extends EventTarget {
  #list;
  #all = [];
  #byImage = new Map();
  #selected = new Set();
  #rows;
  #user;
  #here = null;
  #anchor = null;
  #before = null;

  constructor(list, user) {
    super();
    this.#list = list;
    this.#user = user;
    this.#rows = new TileRows(list, this.#all, list?.classList.contains("tiles--scrolling"));
    this.add(list ? [...list.children] : []);
    this.go(this.nextUndecided() ?? this.#all[0], { focus: false });
  }

  get here() {
    return this.#here;
  }
  get ids() {
    return this.#all.map((tile) => Number(tile.dataset.image));
  }
  get selected() {
    return this.#all.filter((tile) => this.#selected.has(tile));
  }
  of(imageId) {
    return this.#byImage.get(String(imageId));
  }
  undecided() {
    return this.#all.filter((tile) => !tile.dataset.decision);
  }
  all() {
    return [...this.#all];
  }

  /** Put tiles behind the last one; those that are there already stay as they are. */
  add(tiles) {
    for (const tile of tiles) {
      if (this.#byImage.has(tile.dataset.image)) continue;
      // One stop for the Tab key; arrows move inside.
      linkOf(tile).tabIndex = boxOf(tile).tabIndex = -1;
      this.#byImage.set(tile.dataset.image, tile);
      this.#all.push(tile);
    }
    this.#rows.sync();
  }

  /** The first undecided one behind a tile, else the first of all; null when all are decided. */
  nextUndecided(tile = null) {
    const free = (one) => !one.dataset.decision;
    return this.#all.slice(this.#all.indexOf(tile) + 1).find(free) ?? this.#all.find(free) ?? null;
  }

  /** A view that scrolls was scrolled or has another size. */
  sync() {
    this.#rows.sync();
  }

  /** The rank of the first tile in sight. */
  firstInSight() {
    return Number(this.#rows.firstInSight?.dataset.rank ?? 0);
  }

  under(band) {
    return this.#rows.under(band);
  }

  /** Put the cursor on a tile. */
  go(tile, { focus = true } = {}) {
    if (!tile) return;
    if (this.#here) {
      this.#here.classList.remove("tile--here");
      linkOf(this.#here).tabIndex = -1;
    }
    this.#here = tile;
    tile.classList.add("tile--here");
    linkOf(tile).tabIndex = 0;
    if (!focus) return;
    this.#rows.reveal(tile);
    linkOf(tile).focus({ preventScroll: true });
    tile.scrollIntoView({ block: "nearest" });
  }

  /** Move the cursor by tiles or, with `rows`, by rows; `extend` selects from where the range began. */
  step(by, { rows = false, extend = false } = {}) {
    if (!this.#here) return;
    const from = this.#all.indexOf(this.#here);
    const to = from + by * (rows ? this.#rows.columns : 1);
    const there = this.#all[to] ?? this.#here;
    if (extend) this.#extend(there);
    else this.#before = null;
    this.go(there);
  }

  open() {
    if (this.#here) linkOf(this.#here).click();
  }

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
    // The end of a range was ticked already, before its box says that it changed.
    if (boxOf(tile).checked === this.#selected.has(tile)) return;
    if (boxOf(tile).checked) this.#selected.add(tile);
    else this.#selected.delete(tile);
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
    this.#choose(tiles);
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
    const [first, last] = [this.#anchor, tile]
      .map((one) => this.#all.indexOf(one))
      .sort((one, other) => one - other);
    this.#choose([...this.#before, ...this.#all.slice(first, last + 1)]);
    this.#changed();
  }

  #choose(tiles) {
    const chosen = new Set(tiles);
    for (const tile of this.#selected) if (!chosen.has(tile)) boxOf(tile).checked = false;
    for (const tile of chosen) boxOf(tile).checked = true;
    this.#selected = chosen;
  }

  #changed() {
    this.dispatchEvent(new Event("selection"));
  }
}
