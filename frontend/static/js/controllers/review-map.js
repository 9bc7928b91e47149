// The map of a review's images: draw around points to select images and look at them.
import { createLegendEntry, listColours } from "../review/map/colours.js";
import { isInside } from "../review/map/geometry.js";
import Plot from "../review/map/plot.js";
import { part } from "../review/page-parts.js";

const number = new Intl.NumberFormat("en-US");
const HOVER_DELAY = 90; // milliseconds
const POLL_INTERVAL = 3000;
const STEP = 4; // pixels between two points of a line

export default class {
  #root;
  #plot;
  #data;
  #layouts = {};
  #selected = new Set();
  #line = [];
  #drawing = false;
  #cards = new Map();
  #hoverTimer;
  #pollTimer;
  #listening = new AbortController();

  constructor(element) {
    this.#root = element;
    this.#plot = new Plot(part(element, "canvas"));
    this.#listen();
    this.#load();
  }

  disconnect() {
    this.#listening.abort();
    clearTimeout(this.#hoverTimer);
    clearTimeout(this.#pollTimer);
  }

  #listen() {
    const { signal } = this.#listening;
    const on = (target, type, act) => target.addEventListener(type, act, { signal });
    const canvas = part(this.#root, "canvas");
    on(canvas, "pointerdown", (event) => this.#beginLine(event));
    on(canvas, "pointermove", (event) => this.#move(event));
    on(canvas, "pointerup", () => this.#endLine());
    on(canvas, "pointercancel", () => this.#cancelLine());
    on(canvas, "pointerleave", () => this.#hideCard());
    on(part(this.#root, "colour"), "change", () => this.#draw());
    on(part(this.#root, "doubt"), "change", () => this.#draw());
    on(part(this.#root, "layout"), "change", () => this.#changeLayout());
    on(part(this.#root, "show"), "click", () => this.#openSelection());
    on(part(this.#root, "clear"), "click", () => this.#select([]));
    on(matchMedia("(prefers-color-scheme: dark)"), "change", () => this.#draw());
    on(window, "resize", () => this.#draw());
  }

  async #load() {
    const wait = part(this.#root, "wait");
    const map = await this.#request("GET", "map");
    if (!map) {
      wait.textContent =
        "The map cannot be loaded now. Load the page again when the connection is back.";
      return;
    }
    wait.hidden = true;
    part(this.#root, "bar").hidden = false;
    this.#layouts.overview = this.#data = map;
    this.#draw();
    // The layout by neighbours is requested once, unless it failed before.
    const isNew = map.neighbours === "none" && !map.sentence;
    const state = isNew ? await this.#request("POST", "map", {}) : map;
    if (state) this.#awaitNeighbours(state);
  }

  /** Wait for the layout by neighbours; show it at once, unless the user is at work. */
  async #awaitNeighbours({ neighbours, sentence }) {
    part(this.#root, "coming").textContent = sentence;
    if (neighbours === "waiting") {
      const poll = async () =>
        this.#awaitNeighbours((await this.#request("GET", "map")) ?? { neighbours, sentence });
      this.#pollTimer = setTimeout(poll, POLL_INTERVAL);
    }
    if (neighbours !== "ready") return;
    const map = await this.#request("GET", "map?layout=neighbours");
    if (!map || this.#listening.signal.aborted) return;
    this.#layouts.neighbours = map;
    const choice = part(this.#root, "layout");
    choice.options[1].disabled = false;
    if (this.#drawing || this.#selected.size) return;
    choice.value = "neighbours";
    this.#changeLayout();
  }

  /** Show the chosen layout; the selection stays, the line around it goes. */
  #changeLayout() {
    this.#data = this.#layouts[part(this.#root, "layout").value];
    this.#hideCard();
    this.#line = [];
    this.#draw();
  }

  /** The API's answer, or null. */
  async #request(method, path, body) {
    const headers = {
      Accept: "application/json",
      ...(body && { "Content-Type": "application/json" }),
    };
    const reply = await fetch(`/api/v1/reviews/${this.#root.dataset.review}/${path}`, {
      method,
      headers,
      body: body && JSON.stringify(body),
    }).catch(() => null);
    return reply?.ok ? reply.json() : null;
  }

  /** The filter of the points to show. */
  #createFilter() {
    const { labels, predicted } = this.#data;
    if (!part(this.#root, "doubt").checked) return () => true;
    return (place) => labels[place] !== predicted[place];
  }

  #draw() {
    if (!this.#data) return;
    const by = part(this.#root, "colour").value;
    const values = this.#data[by];
    const colours = listColours(this.#data, by);
    part(this.#root, "legend").replaceChildren(...colours.map(createLegendEntry));
    this.#plot.draw(this.#data, {
      colourOf: (place) => colours[values[place]].colour,
      isVisible: this.#createFilter(),
      selected: this.#selected,
      line: this.#line,
    });
  }

  #beginLine(event) {
    if (!this.#data || event.button !== 0) return;
    part(this.#root, "canvas").setPointerCapture(event.pointerId);
    this.#hideCard();
    this.#drawing = true;
    this.#line = [[event.offsetX, event.offsetY]];
  }

  #move({ offsetX: x, offsetY: y }) {
    if (!this.#data) return;
    if (!this.#drawing) return void this.#hover(x, y);
    const last = this.#line.at(-1);
    if (Math.hypot(x - last[0], y - last[1]) < STEP) return;
    this.#line.push([x, y]);
    this.#plot.extend(last, [x, y]);
  }

  /** Select the images inside the line; a click selects the nearest. */
  #endLine() {
    if (!this.#drawing) return;
    this.#drawing = false;
    const line = this.#line;
    if (line.length < 3) {
      const place = this.#plot.findNearest(...line[0]);
      return void this.#select(place === null ? [] : [place]);
    }
    const isVisible = this.#createFilter();
    const isSelected = (place) => isVisible(place) && isInside(line, this.#plot.locate(place));
    this.#select([...this.#data.image_ids.keys()].filter(isSelected), line);
  }

  #cancelLine() {
    this.#drawing = false;
    this.#select([]);
  }

  #select(places, line = []) {
    this.#line = line;
    this.#selected = new Set(places);
    const count = places.length;
    part(this.#root, "picked").textContent = count
      ? `${number.format(count)} ${count === 1 ? "image" : "images"} picked out`
      : "Draw around images to pick them out.";
    part(this.#root, "show").disabled = part(this.#root, "clear").disabled = !count;
    this.#draw();
  }

  /** Store the selection and open it in the grid. */
  async #openSelection() {
    const selection = await this.#request("POST", "selections", {
      image_ids: [...this.#selected].map((place) => this.#data.image_ids[place]),
    });
    if (selection)
      location.href = `/reviews/${this.#root.dataset.review}?selection=${selection.id}`;
    else
      part(this.#root, "picked").textContent =
        "The selection cannot be kept now. Try again when the connection is back.";
  }

  #hover(x, y) {
    clearTimeout(this.#hoverTimer);
    const place = this.#plot.findNearest(x, y);
    if (place === null) return this.#hideCard();
    this.#hoverTimer = setTimeout(() => this.#showCard(place), HOVER_DELAY);
    return undefined;
  }

  #hideCard() {
    clearTimeout(this.#hoverTimer);
    part(this.#root, "seen").hidden = true;
  }

  /** Show the image next to its point. */
  async #showCard(place) {
    const id = this.#data.image_ids[place];
    if (!this.#cards.has(id)) {
      const reply = await this.#request("GET", `images?image_id=${id}`);
      if (!reply) return;
      this.#cards.set(id, reply.items[0]);
    }
    const item = this.#cards.get(id);
    const card = part(this.#root, "seen");
    card.querySelector("img").src = item.thumbnail;
    card.querySelector("figcaption").textContent =
      item.label === item.predicted
        ? item.label_name
        : `${item.label_name} → ${item.predicted_name}`;
    card.hidden = false;
    this.#placeCard(card, this.#plot.locate(place));
  }

  #placeCard(card, [x, y]) {
    const { width, height } = part(this.#root, "stage").getBoundingClientRect();
    const isTooWide = x + 12 + card.offsetWidth > width;
    const left = Math.max(0, isTooWide ? x - 12 - card.offsetWidth : x + 12);
    const top = Math.max(0, Math.min(y, height - card.offsetHeight));
    card.style.translate = `${left}px ${top}px`;
  }
}
