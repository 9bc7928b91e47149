// The page of suggestions: cursor, selection and whole views by key, button or finger; each decision is on its tile at once.

import { ignoreDoubleClicks } from "../review/double-clicks.js";
import DragSelection from "../review/grid/drag-selection.js";
import InfiniteScroll from "../review/grid/infinite-scroll.js";
import { offerSize } from "../review/grid/tile-size.js";
import Tiles from "../review/grid/tiles.js";
import { actOf } from "../review/key-bindings.js";
import KeysDialog from "../review/keys-dialog.js";
import LabelMenu from "../review/label-menu.js";
import { showMissing } from "../review/missing-images.js";
import { announce, expected, paintProgress, part, showStatus } from "../review/page-parts.js";
import ChangeFeed from "../review/saving/change-feed.js";
import Conflicts from "../review/saving/conflicts.js";
import DecisionStore from "../review/saving/decision-store.js";
import { filterOf, saysWhichDecided } from "../review/view-filter.js";

const AT_ONCE = 200;
const number = new Intl.NumberFormat("en-US");
const images = (count) => `${number.format(count)} ${count === 1 ? "image" : "images"}`;
const stayed = (left) => (left ? ` ${number.format(left)} stayed: somebody decided since.` : "");

export default class {
  #root;
  #store;
  #changes;
  #conflicts;
  #tiles;
  #filter;
  #bulk;
  #idle;
  #keys;
  #labels;
  #scroll;
  #listening = new AbortController();

  constructor(element) {
    this.#root = element;
    const { review, user, order, view, lastChange, bulkCount } = element.dataset;
    this.#filter = filterOf(view);
    this.#bulk = Number(bulkCount);
    this.#idle = part(element, "say").textContent;
    this.#tiles = new Tiles(part(element, "tiles"), user);
    this.#store = new DecisionStore({ review, user, order });
    this.#changes = new ChangeFeed(this.#store, lastChange);
    this.#unsent();
    this.#keys = new KeysDialog(element);
    this.#labels = new LabelMenu(
      element,
      (label) => this.#relabel(label),
      () => this.#seen([this.#tiles.here]),
    );
    this.#listen();
    this.#conflicts = new Conflicts(element, this.#store);
    if (location.hash === "#filters") this.#filters();
  }

  disconnect() {
    this.#listening.abort();
    this.#changes.disconnect();
    this.#scroll?.disconnect();
    this.#conflicts.disconnect();
    this.#keys.disconnect();
    this.#store.disconnect();
  }

  #listen() {
    const { signal } = this.#listening;
    document.addEventListener("keydown", (event) => this.#key(event), { signal });
    this.#root.addEventListener("submit", (event) => this.#submit(event), { signal });
    this.#root.addEventListener("click", (event) => this.#click(event), { signal });
    this.#root.addEventListener("change", (event) => this.#change(event), { signal });
    this.#tiles.addEventListener("selection", () => this.#selected(), { signal });
    this.#store.addEventListener("saved", ({ detail }) => this.#saved(detail), { signal });
    this.#store.addEventListener("refused", ({ detail }) => this.#refresh(detail.entry), {
      signal,
    });
    this.#store.addEventListener("conflict", ({ detail }) => this.#repaint([detail.image]), {
      signal,
    });
    this.#changes.addEventListener("changes", ({ detail }) => this.#others(detail), { signal });
    if (part(this.#root, "tiles"))
      new DragSelection(part(this.#root, "tiles"), this.#tiles, signal);
    if ("scroll" in this.#root.dataset && part(this.#root, "tiles")) this.#scrolling(signal);
    ignoreDoubleClicks(this.#root, signal);
    showMissing(this.#root, signal);
    showStatus(this.#root, this.#store);
    offerSize(this.#root);
  }

  #scrolling(signal) {
    this.#scroll = new InfiniteScroll(this.#root, this.#tiles, signal);
    this.#scroll.addEventListener("more", () => this.#paintUnsent(), { signal });
  }

  /** Decisions that an earlier page could not send are shown as made, and the cursor stands behind them. */
  #unsent() {
    this.#paintUnsent();
    this.#tiles.go(this.#tiles.nextUndecided(), { focus: false });
  }

  #paintUnsent() {
    for (const { body } of this.#store.pending) {
      const decision = body.action && expected(this.#root, body.action, body.label);
      for (const id of decision ? (body.image_ids ?? [body.image_id]) : [])
        this.#tiles.paint(this.#tiles.of(id), decision);
    }
  }

  get #wholeView() {
    return part(this.#root, "scope").value === "view";
  }

  #key(event) {
    const found = actOf(event);
    if (!found) return;
    const move = (by, rows) => () => this.#tiles.step(by, { rows, extend: found.extend });
    const acts = {
      remove: () => this.#decide("remove"),
      keep: () => this.#decide("keep"),
      unsure: () => this.#decide("unsure"),
      relabel: () => Number(this.#root.dataset.classes) <= 10 && this.#relabel(found.digit),
      suggested: () => this.#suggested(),
      label: () => this.#labels.open(),
      undo: () => this.#store.undo(),
      redo: () => this.#store.redo(),
      all: () => this.#all(),
      select: () => (found.extend ? this.#tiles.rangeTo(this.#tiles.here) : this.#tiles.toggle()),
      open: () => this.#tiles.open(),
      leave: () => this.#tiles.select([]),
      filter: () => this.#filters(),
      keys: () => this.#keys.open(),
      previous: move(-1),
      following: move(1),
      above: move(-1, true),
      below: move(1, true),
    };
    if (!acts[found.act]) return;
    event.preventDefault();
    acts[found.act]();
  }

  #submit(event) {
    const { id } = event.target;
    if (id !== "decide" && id !== "undo" && id !== "redo") return;
    event.preventDefault();
    if (id !== "decide") return void this.#store[id]();
    const action = event.submitter?.value;
    if (action === "relabel") this.#relabel(this.#labels.value);
    else if (action) this.#decide(action);
  }

  #click(event) {
    const tile = event.target.closest(".tile");
    if (!tile || !event.shiftKey || !event.target.closest("a, label")) return;
    // A cancelled click on the box itself would set it back once all is done.
    if (!event.target.matches("input")) event.preventDefault();
    this.#tiles.rangeTo(tile);
  }

  #change(event) {
    if (event.target.matches(".tile input")) this.#tiles.touched(event.target.closest(".tile"));
    else if (event.target.dataset.part === "scope") {
      if (this.#wholeView) this.#all();
      else this.#tiles.select([]);
    }
  }

  /** Say what a decision would touch; touching a box ends "the whole view". */
  #selected() {
    part(this.#root, "scope").value = "selection";
    const count = this.#tiles.selected.length;
    this.#say(count ? `${images(count)} selected` : this.#idle);
  }

  #say(sentence) {
    const line = part(this.#root, "say");
    line.textContent = sentence;
    line.dataset.selected = sentence === this.#idle ? "" : "yes";
  }

  /** Select the whole view, pages beyond this one too: the server counts it, so that the count said is the one decided on. */
  async #all() {
    try {
      await this.#store.send();
      this.#bulk = (await this.#store.get(`counts?${new URLSearchParams(this.#filter)}`)).bulk;
    } catch {
      return announce(
        this.#root,
        "The view cannot be counted now. Try again when the connection is back.",
      );
    }
    this.#tiles.select(
      saysWhichDecided(this.#filter) ? this.#tiles.all() : this.#tiles.undecided(),
    );
    part(this.#root, "scope").value = "view";
    return this.#say(
      this.#bulk
        ? `All ${images(this.#bulk)} ${this.#kind()} selected, on every page`
        : "Nothing to decide in this view",
    );
  }

  #kind() {
    return saysWhichDecided(this.#filter) ? "of this view" : "not yet decided in this view";
  }

  #relabel(label) {
    const known = label !== "" && Number(label) < Number(this.#root.dataset.classes);
    if (!known) return announce(this.#root, "Choose the label first.");
    return this.#decide("relabel", Number(label));
  }

  /** The one class that the model sees in these tiles; null when it sees several. */
  #seen(tiles) {
    const seen = new Set(tiles.map((tile) => tile?.dataset.predicted));
    return seen.size === 1 && !seen.has(undefined) ? Number([...seen][0]) : null;
  }

  #suggested() {
    const chosen = this.#tiles.selected;
    const label = this.#wholeView
      ? (this.#filter.predicted ?? null)
      : this.#seen(chosen.length ? chosen : [this.#tiles.here]);
    if (label === null)
      announce(
        this.#root,
        "The model sees different classes in these images. Choose one label for them, or decide one by one.",
      );
    else this.#decide("relabel", label);
  }

  #decide(action, label = null) {
    const chosen = this.#tiles.selected;
    if (this.#wholeView) this.#decideView(chosen, action, label);
    else if (chosen.length > 1) this.#decideSome(chosen, action, label);
    else this.#decideOne(chosen[0], action, label);
  }

  #decideOne(selected, action, label) {
    const tile = selected ?? this.#tiles.here;
    if (!tile) return;
    if (!selected && !this.#tiles.hereVisible()) {
      this.#tiles.go(tile);
      return void announce(this.#root, "You are here. Press again to decide on this image.");
    }
    // The label it already has: that is to keep it.
    const kept = action === "relabel" && label === Number(tile.dataset.label);
    const [act, to] = kept ? ["keep", null] : [action, label];
    this.#store.decide(Number(tile.dataset.image), act, to);
    this.#after([tile], expected(this.#root, act, to));
  }

  #decideSome(tiles, action, label) {
    this.#store.decideMany(
      tiles.map((tile) => Number(tile.dataset.image)),
      action,
      label,
    );
    this.#after(tiles, expected(this.#root, action, label));
  }

  #decideView(tiles, action, label) {
    if (this.#bulk) this.#store.decideAll(this.#filter, this.#bulk, action, label);
    this.#after(this.#bulk ? tiles : [], expected(this.#root, action, label));
  }

  /** Show the decision at once, and go on to the next undecided one. */
  #after(tiles, decision) {
    const touched =
      decision.action === "relabel"
        ? tiles.filter((tile) => Number(tile.dataset.label) !== decision.label)
        : tiles;
    for (const tile of touched) this.#tiles.paint(tile, decision);
    this.#tiles.select([]);
    this.#labels.clear();
    const next = this.#tiles.nextUndecided(tiles.at(-1));
    if (next) return this.#tiles.go(next);
    if (this.#scroll?.more)
      return void this.#scroll
        .load()
        .then((there) => there && this.#tiles.go(this.#tiles.nextUndecided()));
    const following = part(this.#root, "following");
    document.activeElement?.blur();
    following?.focus();
    return announce(
      this.#root,
      following
        ? "This page is done. Enter opens the next one."
        : "Every image on this page is decided.",
    );
  }

  #saved({ entry, outcome }) {
    paintProgress(this.#root, outcome.progress);
    if (outcome.items.length < Math.min(outcome.count, this.#tiles.ids.length) || outcome.left)
      this.#refresh();
    this.#repaint(outcome.items);
    if (entry.path === "undo" || entry.path === "redo") this.#takenBack(entry.path, outcome);
    else if (entry.path === "decisions/bulk")
      announce(
        this.#root,
        `${outcome.count ? `${images(outcome.count)} decided. Undo takes them back together.` : "No image was decided."}${stayed(outcome.left)}`,
      );
  }

  #takenBack(path, { items, count, left }) {
    const ids = new Set(items.map((item) => String(item.image_id)));
    const tile = this.#tiles.all().find((one) => ids.has(one.dataset.image));
    this.#tiles.go(tile);
    const where =
      tile || !count
        ? ""
        : items.length === 1
          ? ` Rank ${number.format(items[0].rank)}, on another page.`
          : " They are on other pages.";
    announce(
      this.#root,
      `${path === "undo" ? "Taken back" : "Done again"}: ${images(count)}.${where}${stayed(left)}`,
    );
  }

  #others(reply) {
    paintProgress(this.#root, reply.progress);
    if (reply.reload) reply.until(this.#refresh());
    this.#repaint(reply.items);
  }

  #repaint(items) {
    const waiting = this.#store.images;
    for (const item of items)
      if (!waiting.has(item.image_id))
        this.#tiles.paint(this.#tiles.of(item.image_id), item.decision);
  }

  /** Ask how all tiles of this page stand, some at a time. */
  async #refresh() {
    const { ids } = this.#tiles;
    for (let from = 0; from < ids.length; from += AT_ONCE) {
      const query = new URLSearchParams(
        ids.slice(from, from + AT_ONCE).map((id) => ["image_id", id]),
      );
      try {
        this.#repaint((await this.#store.get(`images?${query}`)).items);
      } catch {
        return; /* the next news repaint them */
      }
    }
  }

  #filters() {
    part(this.#root, "filters-fold").open = true;
    part(this.#root, "first-filter").focus();
  }
}
