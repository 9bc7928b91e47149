// One large image, decided by key, button or finger. The next image does not wait for the server.

import { describeDecision, expectDecision } from "../review/decision-words.js";
import { ignoreDoubleClicks } from "../review/double-clicks.js";
import Explanation from "../review/focus/explanation.js";
import ImageHistory from "../review/focus/image-history.js";
import Prefetch from "../review/focus/prefetch.js";
import Swipe from "../review/focus/swipe.js";
import Zoom from "../review/focus/zoom.js";
import { findActOf } from "../review/key-bindings.js";
import KeysDialog from "../review/keys-dialog.js";
import LabelMenu from "../review/label-menu.js";
import { markMissingImages } from "../review/missing-images.js";
import { paintProgress, part } from "../review/page-parts.js";
import ChangeFeed from "../review/saving/change-feed.js";
import Conflicts from "../review/saving/conflicts.js";
import DecisionStore from "../review/saving/decision-store.js";
import { announce, showStatus } from "../review/status-line.js";

const ADDRESS_DELAY = 100; // milliseconds
const LOADING_PROBLEMS = {
  404: "There is no such review.",
  "no network": "The next image cannot be loaded. It comes when the connection is back.",
};

export default class {
  #root;
  #store;
  #changes;
  #conflicts;
  #history;
  #prefetch;
  #explanation;
  #zoom;
  #item;
  #view;
  #address;
  #busy = false;
  #showAgain = null;
  #addressTimer;
  #keys;
  #labels;
  #listening = new AbortController();

  constructor(element) {
    this.#root = element;
    const { review, user, order, view, lastChange } = element.dataset;
    this.#view = view;
    this.#address = `/reviews/${review}`;
    this.#item = JSON.parse(part(element, "item").textContent);
    this.#store = new DecisionStore({ review, user, order });
    this.#explanation = new Explanation(element, this.#store);
    this.#zoom = new Zoom(element, this.#listening.signal);
    this.#prefetch = new Prefetch(this.#store, view, (items) => this.#explanation.prepare(items));
    this.#changes = new ChangeFeed(this.#store, lastChange);
    this.#keys = new KeysDialog(element);
    this.#labels = new LabelMenu(
      element,
      (label) => this.#relabel(label),
      () => this.#item.predicted,
    );
    this.#listen();
    this.#conflicts = new Conflicts(element, this.#store);
    this.#history = new ImageHistory(element, this.#store, this.#item.image_id);
    if (part(element, "why").dataset.state !== "ready")
      this.#explanation.show(this.#item, { rendered: true });
    this.#prefetch.prepare(this.#item.rank);
  }

  disconnect() {
    this.#listening.abort();
    clearTimeout(this.#addressTimer);
    this.#changes.disconnect();
    this.#conflicts.disconnect();
    this.#history.disconnect();
    this.#explanation.disconnect();
    this.#keys.disconnect();
    this.#store.disconnect();
  }

  #listen() {
    const { signal } = this.#listening;
    document.addEventListener("keydown", (event) => this.#key(event), { signal });
    this.#root.addEventListener("submit", (event) => this.#submit(event), { signal });
    this.#root.addEventListener("click", (event) => this.#click(event), { signal });
    this.#store.addEventListener("saved", ({ detail }) => this.#saved(detail), { signal });
    this.#store.addEventListener("refused", ({ detail }) => this.#refused(detail), { signal });
    this.#store.addEventListener("conflict", ({ detail }) => this.#repaint([detail.image]), {
      signal,
    });
    this.#store.addEventListener("state", ({ detail }) => this.#retryMissing(detail), { signal });
    this.#changes.addEventListener("changes", ({ detail }) => this.#applyChanges(detail), {
      signal,
    });
    part(this.#root, "image").addEventListener(
      "load",
      ({ target }) => this.#updateScaling(target),
      {
        signal,
      },
    );
    new Swipe(part(this.#root, "stage"), (action) => this.#decide(action), signal);
    ignoreDoubleClicks(this.#root, signal);
    markMissingImages(this.#root, signal);
    showStatus(this.#root, this.#store);
  }

  #key(event) {
    const found = findActOf(event, ["select", "all", "open"]);
    if (!found) return;
    const acts = {
      remove: () => this.#decide("remove"),
      keep: () => this.#decide("keep"),
      unsure: () => this.#decide("unsure"),
      relabel: () => Number(this.#root.dataset.classes) <= 10 && this.#relabel(found.digit),
      // As the button does: nothing where the model agrees.
      suggested: () =>
        part(this.#root, "suggested").disabled || this.#relabel(this.#item.predicted),
      label: () => this.#labels.open(),
      undo: () => this.#store.undo(),
      redo: () => this.#store.redo(),
      previous: () =>
        found.extend && this.#zoom.zoomed ? this.#zoom.pan(-1, 0) : this.#move("previous"),
      following: () =>
        found.extend && this.#zoom.zoomed ? this.#zoom.pan(1, 0) : this.#move("following"),
      above: () => this.#zoom.pan(0, -1),
      below: () => this.#zoom.pan(0, 1),
      closer: () => this.#zoom.by(1.5),
      farther: () => this.#zoom.by(1 / 1.5),
      fit: () => this.#zoom.fit(),
      keys: () => this.#keys.open(),
      leave: () => part(this.#root, "grid").click(),
      filter: () => {
        location.href = `${part(this.#root, "grid").href}#filters`;
      },
    };
    // Up and down scroll the page, except inside an enlarged image.
    const scrolls =
      (found.act === "above" || found.act === "below") && !(found.extend && this.#zoom.zoomed);
    if (!acts[found.act] || scrolls) return;
    event.preventDefault();
    acts[found.act]();
  }

  #submit(event) {
    if (event.target.method === "dialog" || event.target.closest("[data-part=standing]")) return;
    event.preventDefault();
    const { id } = event.target;
    if (id === "undo" || id === "redo") return void this.#store[id]();
    const action = event.submitter?.value;
    if (action === "relabel") this.#relabel(this.#labels.value);
    else if (action === "suggested") this.#relabel(this.#item.predicted);
    else if (action) this.#decide(action);
  }

  #click(event) {
    const link = event.target.closest("[rel=prev], [rel=next]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    this.#move(link.rel === "prev" ? "previous" : "following");
  }

  #relabel(label) {
    const isKnown = label !== "" && Number(label) < Number(this.#root.dataset.classes);
    if (!isKnown) return announce(this.#root, "Choose the label first.");
    // Giving an image its own label keeps it.
    return Number(label) === this.#item.label
      ? this.#decide("keep")
      : this.#decide("relabel", Number(label));
  }

  async #decide(action, label = null) {
    if (this.#busy) return;
    const item = this.#item;
    this.#prefetch.drop(item.image_id);
    this.#store.decide(item.image_id, action, label, item.change);
    this.#paintDecision(expectDecision(this.#root, action, label));
    // In the menu, the next key would choose a label.
    this.#labels.clear();
    await this.#show(
      () => this.#prefetch.next(item.rank),
      "Every image in this view is decided. Undo takes the last one back.",
    );
  }

  async #move(side) {
    const query = new URLSearchParams(this.#view);
    query.delete("size");
    query.set("limit", 1);
    query.set(side === "previous" ? "before" : "after", this.#item.rank);
    const say = side === "previous" ? "This is the first image." : "This is the last image.";
    await this.#show(async () => (await this.#store.get(`suggestions?${query}`)).items[0], say);
  }

  /** Paint what `find` finds; meanwhile, further keys do nothing. */
  async #show(find, sentence) {
    if (this.#busy) return;
    this.#busy = true;
    this.#showAgain = null;
    try {
      const item = await find();
      if (item) this.#paint(item);
      else announce(this.#root, sentence);
    } catch (error) {
      this.#showAgain = () => this.#show(find, sentence);
      // The store reports a 401 itself.
      if (error.message !== "401")
        announce(
          this.#root,
          LOADING_PROBLEMS[error.message] ??
            "The next image cannot be loaded. It comes when the server is well again.",
        );
    } finally {
      this.#busy = false;
    }
  }

  #retryMissing({ state }) {
    if (state === "saved") this.#showAgain?.();
  }

  #saved({ entry, outcome }) {
    paintProgress(this.#root, outcome.progress);
    if (entry.path !== "undo" && entry.path !== "redo") return this.#repaint(outcome.items);
    this.#prefetch.reset(outcome.items.map((item) => item.image_id));
    if (outcome.items.length === 1) this.#paint(outcome.items[0]);
    else this.#repaint(outcome.items);
    const left = outcome.left ? ` ${outcome.left} stayed: someone decided since.` : "";
    announce(
      this.#root,
      `${entry.path === "undo" ? "Taken back" : "Done again"}: ${outcome.count}.${left}`,
    );
    return undefined;
  }

  #refused({ entry }) {
    if (entry.body.image_id) this.#prefetch.reset([entry.body.image_id]);
  }

  #applyChanges(reply) {
    paintProgress(this.#root, reply.progress);
    for (const item of reply.items) {
      if (!item.decision) this.#prefetch.restore(item.image_id);
      else if (String(item.decision.by_id) !== this.#root.dataset.user)
        this.#prefetch.drop(item.image_id);
    }
    if (reply.reload) {
      this.#prefetch.reset();
      this.#refresh();
    }
    this.#repaint(reply.items);
  }

  /** Get the current state of the image on screen. */
  async #refresh() {
    try {
      this.#repaint(
        (await this.#store.get(`images?image_id=${this.#item.image_id}&order=${this.#store.order}`))
          .items,
      );
    } catch {
      // The next changes repaint it.
    }
  }

  #repaint(items) {
    const newer = items.find(
      (item) => item.image_id === this.#item.image_id && !this.#store.images.has(item.image_id),
    );
    if (newer) {
      this.#item = newer;
      this.#paintDecision(newer.decision);
    }
  }

  #paint(item) {
    const root = this.#root;
    this.#item = item;
    this.#explanation.show(item);
    this.#history.show(item.image_id);
    this.#zoom.fit();
    const image = part(root, "image");
    image.src = item.full;
    image.alt = `Labelled ${item.label_name}, the model sees ${item.predicted_name}`;
    const words = {
      path: item.path,
      rank: item.rank.toLocaleString("en-US"),
      "label-name": item.label_name,
      prediction: item.prediction_words,
      brought: `${item.brought_by_words}.`,
    };
    for (const [name, text] of Object.entries(words)) part(root, name).textContent = text;
    for (const [name, share, text] of [
      ["accuracy", item.accuracy_share, item.accuracy_words],
      ["label", item.label_share, item.label_words],
    ]) {
      const signal = root.querySelector(`[data-signal="${name}"]`);
      if (!signal) continue; // a ranking by margin alone has one signal
      signal.querySelector("meter").value = share;
      part(signal, "words").textContent = text;
    }
    const better = part(root, "better");
    better.textContent = item.better_label_words;
    better.hidden = !item.better_label_words;
    part(root, "label").value = "";
    part(root, "suggested").disabled = item.predicted === item.label;
    part(root, "suggested-name").textContent = item.predicted_name;
    part(root, "image-id").value = item.image_id;
    this.#paintDecision(item.decision);
    this.#paintPlace(item.rank);
  }

  #paintPlace(rank) {
    const query = (at, name = "at") => {
      const found = new URLSearchParams(this.#view);
      if (at) found.set(name, at);
      return found;
    };
    const address = `${this.#address}/focus?${query(rank)}`;
    // Browsers take longer over this than over the next image, and ignore frequent calls.
    clearTimeout(this.#addressTimer);
    this.#addressTimer = setTimeout(() => history.replaceState(null, "", address), ADDRESS_DELAY);
    for (const field of document.querySelectorAll('[data-part="back"]')) field.value = address;
    for (const link of document.querySelectorAll('[data-part="grid"]'))
      link.href = `${this.#address}?${query(rank - 1, "after")}`;
    for (const [name, at] of [
      ["previous", rank - 1],
      ["following", rank + 1],
    ]) {
      const link = part(this.#root, name);
      link.hidden = at < 1;
      link.href = `${this.#address}/focus?${query(at)}`;
    }
  }

  #paintDecision(decision) {
    const line = part(this.#root, "decision");
    line.textContent = describeDecision(decision, this.#root.dataset.user) || "Not yet decided";
    line.dataset.decision = decision?.action ?? "";
  }

  #updateScaling(image) {
    image.classList.toggle(
      "focus__image--small",
      Math.max(image.naturalWidth, image.naturalHeight) <= 64,
    );
  }
}
