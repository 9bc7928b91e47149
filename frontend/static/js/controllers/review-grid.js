// The grid of suggestions: cursor, selection and whole views, decided by key, button or finger.

import { expectDecision, nameClass } from "../review/decision-words.js";
import { ignoreDoubleClicks } from "../review/double-clicks.js";
import { askFirst } from "../review/grid/ask-first.js";
import DragSelection from "../review/grid/drag-selection.js";
import InfiniteScroll from "../review/grid/infinite-scroll.js";
import { offerSize } from "../review/grid/tile-size.js";
import Tiles from "../review/grid/tiles.js";
import { findActOf } from "../review/key-bindings.js";
import KeysDialog from "../review/keys-dialog.js";
import LabelMenu from "../review/label-menu.js";
import { markMissingImages } from "../review/missing-images.js";
import { paintProgress, part } from "../review/page-parts.js";
import ChangeFeed from "../review/saving/change-feed.js";
import Conflicts from "../review/saving/conflicts.js";
import DecisionStore from "../review/saving/decision-store.js";
import { announce, showStatus } from "../review/status-line.js";
import { filtersByDecision, parseFilter } from "../review/view-filter.js";

const REFRESH_SIZE = 200;
const number = new Intl.NumberFormat("en-US");
const countImages = (count) => `${number.format(count)} ${count === 1 ? "image" : "images"}`;
const reportSkipped = (left) =>
  left ? ` ${number.format(left)} stayed: someone decided since.` : "";
const describeBulk = (count) =>
  count ? `${countImages(count)} decided. Undo takes them back together.` : "No image was decided.";

export default class {
  #root;
  #store;
  #changes;
  #conflicts;
  #tiles;
  #filter;
  #viewCount;
  #idleText;
  #keys;
  #labels;
  #scroll;
  #listening = new AbortController();

  constructor(element) {
    this.#root = element;
    const { review, user, order, view, lastChange, bulkCount } = element.dataset;
    this.#filter = parseFilter(view);
    this.#viewCount = Number(bulkCount);
    this.#idleText = part(element, "say").textContent;
    this.#tiles = new Tiles(part(element, "tiles"), user);
    this.#store = new DecisionStore({ review, user, order });
    this.#changes = new ChangeFeed(this.#store, lastChange);
    this.#showUnsent();
    this.#keys = new KeysDialog(element);
    this.#labels = new LabelMenu(
      element,
      (label) => this.#relabel(label),
      () => this.#findPredicted([this.#tiles.here]),
    );
    this.#listen();
    this.#conflicts = new Conflicts(element, this.#store);
    if (location.hash === "#filters") this.#openFilters();
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
    this.#tiles.addEventListener("selection", () => this.#reportSelection(), { signal });
    this.#store.addEventListener("saved", ({ detail }) => this.#saved(detail), { signal });
    this.#store.addEventListener("refused", ({ detail }) => this.#refresh(detail.entry), {
      signal,
    });
    this.#store.addEventListener("conflict", ({ detail }) => this.#repaint([detail.image]), {
      signal,
    });
    this.#changes.addEventListener("changes", ({ detail }) => this.#applyChanges(detail), {
      signal,
    });
    if (part(this.#root, "tiles"))
      new DragSelection(part(this.#root, "tiles"), this.#tiles, signal);
    if ("scroll" in this.#root.dataset && part(this.#root, "tiles")) this.#startScrolling(signal);
    ignoreDoubleClicks(this.#root, signal);
    markMissingImages(this.#root, signal);
    showStatus(this.#root, this.#store);
    offerSize(this.#root);
  }

  #startScrolling(signal) {
    this.#scroll = new InfiniteScroll(this.#root, this.#tiles, signal);
    this.#scroll.addEventListener("more", () => this.#paintUnsent(), { signal });
  }

  /** Show unsent decisions of an earlier page as made, and move the cursor past them. */
  #showUnsent() {
    this.#paintUnsent();
    this.#tiles.moveTo(this.#tiles.nextUndecided(), { focus: false });
  }

  #paintUnsent() {
    for (const { body } of this.#store.pending) {
      const decision = body.action && expectDecision(this.#root, body.action, body.label);
      for (const id of decision ? (body.image_ids ?? [body.image_id]) : [])
        this.#tiles.paint(this.#tiles.findByImage(id), decision);
    }
  }

  get #wholeView() {
    return part(this.#root, "scope").value === "view";
  }

  #key(event) {
    if (event.key === "Escape" && part(this.#root, "filters-fold").contains(event.target))
      return this.#leaveFilters(event);
    const found = findActOf(event, ["closer", "farther", "fit"]);
    if (!found) return;
    const move = (by, rows) => () => this.#tiles.step(by, { rows, extend: found.extend });
    const acts = {
      remove: () => this.#decide("remove"),
      keep: () => this.#decide("keep"),
      unsure: () => this.#decide("unsure"),
      relabel: () => Number(this.#root.dataset.classes) <= 10 && this.#relabel(found.digit),
      suggested: () => this.#decideSuggested(),
      label: () => this.#labels.open(),
      undo: () => this.#store.undo(),
      redo: () => this.#store.redo(),
      all: () => this.#selectView(),
      select: () =>
        found.extend ? this.#tiles.selectRangeTo(this.#tiles.here) : this.#tiles.toggle(),
      open: () => this.#tiles.open(),
      leave: () => this.#tiles.select([]),
      filter: () => this.#openFilters(),
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
    // Cancelling a click on the box would untick it afterwards.
    if (!event.target.matches("input")) event.preventDefault();
    this.#tiles.selectRangeTo(tile);
  }

  #change(event) {
    if (event.target.matches(".tile input"))
      this.#tiles.updateSelection(event.target.closest(".tile"));
    else if (event.target.dataset.part === "scope") {
      if (this.#wholeView) this.#selectView();
      else this.#tiles.select([]);
    }
  }

  /** Report the selection; changing it ends "the whole view". */
  #reportSelection() {
    part(this.#root, "scope").value = "selection";
    const count = this.#tiles.selected.length;
    this.#say(count ? `${countImages(count)} selected` : this.#idleText);
  }

  #say(sentence) {
    const line = part(this.#root, "say");
    line.textContent = sentence;
    line.dataset.selected = sentence === this.#idleText ? "" : "yes";
  }

  /** Select the whole view. The server counts it: the count shown is the count decided on. */
  async #selectView() {
    try {
      await this.#store.send();
      this.#viewCount = (await this.#store.get(`counts?${new URLSearchParams(this.#filter)}`)).bulk;
    } catch {
      return announce(
        this.#root,
        "The view cannot be counted now. Try again when the connection is back.",
      );
    }
    this.#tiles.select(
      filtersByDecision(this.#filter) ? this.#tiles.all() : this.#tiles.undecided(),
    );
    part(this.#root, "scope").value = "view";
    return this.#say(
      this.#viewCount
        ? `All ${countImages(this.#viewCount)} ${this.#kind()} selected, on every page`
        : "Nothing to decide in this view",
    );
  }

  #kind() {
    return filtersByDecision(this.#filter) ? "of this view" : "not yet decided in this view";
  }

  #relabel(label) {
    const isKnown = label !== "" && Number(label) < Number(this.#root.dataset.classes);
    if (!isKnown) return announce(this.#root, "Choose the label first.");
    return this.#decide("relabel", Number(label));
  }

  /** The class that the model sees in all these tiles; null when there are several. */
  #findPredicted(tiles) {
    const seen = new Set(tiles.map((tile) => tile?.dataset.predicted));
    return seen.size === 1 && !seen.has(undefined) ? Number([...seen][0]) : null;
  }

  #decideSuggested() {
    const chosen = this.#tiles.selected;
    const label = this.#wholeView
      ? (this.#filter.predicted ?? null)
      : this.#findPredicted(chosen.length ? chosen : [this.#tiles.here]);
    if (label === null)
      announce(
        this.#root,
        "The model sees different classes in these images. Choose a label, or decide one by one.",
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
      this.#tiles.moveTo(tile);
      return void announce(this.#root, "You are here. Press again to decide on this image.");
    }
    // Giving an image its own label keeps it.
    const kept = action === "relabel" && label === Number(tile.dataset.label);
    const [act, to] = kept ? ["keep", null] : [action, label];
    this.#store.decide(Number(tile.dataset.image), act, to);
    this.#advance([tile], expectDecision(this.#root, act, to));
  }

  #decideSome(tiles, action, label) {
    this.#store.decideMany(
      tiles.map((tile) => Number(tile.dataset.image)),
      action,
      label,
    );
    this.#advance(tiles, expectDecision(this.#root, action, label));
  }

  /** Decide on the whole view; where that reaches other pages, ask first. */
  async #decideView(tiles, action, label) {
    const count = this.#viewCount;
    const elsewhere = count > tiles.length && this.#root.dataset.pages !== "1";
    if (elsewhere && !(await askFirst(this.#root, this.#question(action, label)))) {
      this.#tiles.select([]);
      return announce(this.#root, "Nothing was decided.");
    }
    if (count) this.#store.decideAll(this.#filter, count, action, label);
    return this.#advance(count ? tiles : [], expectDecision(this.#root, action, label));
  }

  #question(action, label) {
    const count = countImages(this.#viewCount);
    const acts = {
      remove: `Remove ${count}`,
      keep: `Keep ${count} as they are`,
      unsure: `Mark ${count} as unsure`,
      relabel: `Give ${count} the label “${nameClass(this.#root, label)}”`,
    };
    const pages = Number(this.#root.dataset.pages);
    const where = pages
      ? `from all ${number.format(pages)} pages of this view`
      : "also those further down that are not loaded yet";
    return `${acts[action]}, ${where}? Undo takes them back together.`;
  }

  /** Show the decision at once, and move to the next undecided image. */
  #advance(tiles, decision) {
    const touched =
      decision.action === "relabel"
        ? tiles.filter((tile) => Number(tile.dataset.label) !== decision.label)
        : tiles;
    for (const tile of touched) this.#tiles.paint(tile, decision);
    this.#tiles.select([]);
    this.#labels.clear();
    const next = this.#tiles.nextUndecided(tiles.at(-1));
    if (next) return this.#tiles.moveTo(next);
    if (this.#scroll?.hasMore)
      return void this.#scroll
        .load()
        .then((there) => there && this.#tiles.moveTo(this.#tiles.nextUndecided()));
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
    if (entry.path === "undo" || entry.path === "redo") this.#reportUndo(entry.path, outcome);
    else if (entry.path === "decisions/bulk")
      announce(this.#root, `${describeBulk(outcome.count)}${reportSkipped(outcome.left)}`);
  }

  #reportUndo(path, { items, count, left }) {
    const ids = new Set(items.map((item) => String(item.image_id)));
    const tile = this.#tiles.all().find((one) => ids.has(one.dataset.image));
    this.#tiles.moveTo(tile);
    const act = path === "undo" ? "Taken back" : "Done again";
    const where =
      tile || !count
        ? ""
        : items.length === 1
          ? ` Rank ${number.format(items[0].rank)}, on another page.`
          : " They are on other pages.";
    announce(this.#root, `${act}: ${countImages(count)}.${where}${reportSkipped(left)}`);
  }

  #applyChanges(reply) {
    paintProgress(this.#root, reply.progress);
    if (reply.reload) reply.until(this.#refresh());
    this.#repaint(reply.items);
  }

  #repaint(items) {
    const waiting = this.#store.images;
    for (const item of items)
      if (!waiting.has(item.image_id))
        this.#tiles.paint(this.#tiles.findByImage(item.image_id), item.decision);
  }

  /** Get the current state of all tiles, some at a time. */
  async #refresh() {
    const { ids } = this.#tiles;
    for (let from = 0; from < ids.length; from += REFRESH_SIZE) {
      const query = new URLSearchParams(
        ids.slice(from, from + REFRESH_SIZE).map((id) => ["image_id", id]),
      );
      try {
        this.#repaint((await this.#store.get(`images?${query}`)).items);
      } catch {
        return; // the next changes repaint them
      }
    }
  }

  /** Esc in the filters gives the keys back to the images. */
  #leaveFilters(event) {
    event.preventDefault();
    event.target.blur();
    this.#tiles.moveTo(this.#tiles.here);
  }

  #openFilters() {
    part(this.#root, "filters-fold").open = true;
    part(this.#root, "first-filter").focus();
  }
}
