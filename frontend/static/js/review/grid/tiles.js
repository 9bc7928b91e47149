// The tiles of a page: cursor, selection and decisions. Event: selection.
import { describeDecision } from "../decision-words.js";
import { part } from "../page-parts.js";
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
  #selectedBefore = null;

  constructor(list, user) {
    super();
    this.#list = list;
    this.#user = user;
    this.#rows = new TileRows(list, this.#all, list?.classList.contains("tiles--scrolling"));
    this.add(list ? [...list.children] : []);
    this.moveTo(this.nextUndecided() ?? this.#all[0], { focus: false });
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
  findByImage(imageId) {
    return this.#byImage.get(String(imageId));
  }
  undecided() {
    return this.#all.filter((tile) => !tile.dataset.decision);
  }
  all() {
    return [...this.#all];
  }

  /** Append tiles, except those already there. */
  add(tiles) {
    for (const tile of tiles) {
      if (this.#byImage.has(tile.dataset.image)) continue;
      // One tab stop; arrows move inside.
      linkOf(tile).tabIndex = boxOf(tile).tabIndex = -1;
      this.#byImage.set(tile.dataset.image, tile);
      this.#all.push(tile);
    }
    this.#rows.sync();
  }

  /** The first undecided tile after a tile, else the first of all; null when all are decided. */
  nextUndecided(tile = null) {
    const isUndecided = (candidate) => !candidate.dataset.decision;
    return (
      this.#all.slice(this.#all.indexOf(tile) + 1).find(isUndecided) ??
      this.#all.find(isUndecided) ??
      null
    );
  }

  /** Update after scrolling or resizing. */
  sync() {
    this.#rows.sync();
  }

  /** The rank of the first tile in sight. */
  firstInSight() {
    return Number(this.#rows.firstInSight?.dataset.rank ?? 0);
  }

  findUnder(band) {
    return this.#rows.findUnder(band);
  }

  /** Put the cursor on a tile. */
  moveTo(tile, { focus = true } = {}) {
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

  /** Move the cursor by tiles or rows; `extend` selects from where the range began. */
  step(by, { rows = false, extend = false } = {}) {
    if (!this.#here) return;
    const from = this.#all.indexOf(this.#here);
    const to = from + by * (rows ? this.#rows.columns : 1);
    const there = this.#all[to] ?? this.#here;
    if (extend) this.#extend(there);
    else this.#selectedBefore = null;
    this.moveTo(there);
  }

  open() {
    if (this.#here) linkOf(this.#here).click();
  }

  /** True if the cursor's picture is in sight: no one decides on what they cannot see. */
  hereVisible() {
    const box = linkOf(this.#here).getBoundingClientRect();
    return box.bottom > 0 && box.top < innerHeight;
  }

  toggle(tile = this.#here) {
    if (!tile) return;
    boxOf(tile).checked = !boxOf(tile).checked;
    this.updateSelection(tile);
  }

  /** Follow a box that was ticked or cleared; ranges and the cursor start here. */
  updateSelection(tile) {
    // A range has ticked its last box already.
    if (boxOf(tile).checked === this.#selected.has(tile)) return;
    if (boxOf(tile).checked) this.#selected.add(tile);
    else this.#selected.delete(tile);
    this.#anchor = tile;
    this.#selectedBefore = null;
    this.moveTo(tile, { focus: false });
    this.#notify();
  }

  /** Select from the last changed tile to this tile. */
  selectRangeTo(tile) {
    this.#extend(tile);
    this.moveTo(tile);
  }

  select(tiles) {
    this.#setSelection(tiles);
    this.#anchor = this.#selectedBefore = null;
    this.#notify();
  }

  paint(tile, decision) {
    if (!tile) return;
    tile.dataset.decision = decision?.action ?? "";
    part(tile, "decision").textContent = describeDecision(decision, this.#user);
  }

  #extend(tile) {
    if (!this.#selectedBefore) {
      this.#anchor ??= this.#here;
      this.#selectedBefore = new Set(this.selected);
    }
    const [first, last] = [this.#anchor, tile]
      .map((end) => this.#all.indexOf(end))
      .sort((a, b) => a - b);
    this.#setSelection([...this.#selectedBefore, ...this.#all.slice(first, last + 1)]);
    this.#notify();
  }

  #setSelection(tiles) {
    const chosen = new Set(tiles);
    for (const tile of this.#selected) if (!chosen.has(tile)) boxOf(tile).checked = false;
    for (const tile of chosen) boxOf(tile).checked = true;
    this.#selected = chosen;
  }

  #notify() {
    this.dispatchEvent(new Event("selection"));
  }
}
