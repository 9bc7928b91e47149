// The map of a review's images: points on a canvas, coloured by class or decision; drawing around some picks them out to look at.

import { inside, Near } from "../review/map/geometry.js";
import { part } from "../review/page-parts.js";

const number = new Intl.NumberFormat("en-US");
const EDGE = 14;
const HOVER = 90;
const POLL = 3000;

export default class {
  #root;
  #data;
  #maps = {};
  #near;
  #chosen = new Set();
  #line = [];
  #drawing = false;
  #cards = new Map();
  #scale = 1;
  #left = EDGE;
  #top = EDGE;
  #timer;
  #poll;
  #listening = new AbortController();

  constructor(element) {
    this.#root = element;
    const { signal } = this.#listening;
    const canvas = part(element, "canvas");
    canvas.addEventListener("pointerdown", (event) => this.#begin(event), { signal });
    canvas.addEventListener("pointermove", (event) => this.#move(event), { signal });
    canvas.addEventListener("pointerup", () => this.#end(), { signal });
    // Where the browser takes the finger away, nothing was drawn around.
    canvas.addEventListener(
      "pointercancel",
      () => {
        this.#drawing = false;
        this.#pick([]);
      },
      { signal },
    );
    canvas.addEventListener("pointerleave", () => this.#hide(), { signal });
    for (const name of ["colour", "doubt"])
      part(element, name).addEventListener("change", () => this.#draw(), { signal });
    part(element, "layout").addEventListener("change", () => this.#arrange(), { signal });
    part(element, "show").addEventListener("click", () => this.#show(), { signal });
    part(element, "clear").addEventListener("click", () => this.#pick([]), { signal });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#draw(), {
      signal,
    });
    addEventListener("resize", () => this.#draw(), { signal });
    this.#load();
  }

  disconnect() {
    this.#listening.abort();
    clearTimeout(this.#timer);
    clearTimeout(this.#poll);
  }

  get #api() {
    return `/api/v1/reviews/${this.#root.dataset.review}`;
  }

  async #load() {
    const wait = part(this.#root, "wait");
    const found = await this.#ask("GET", "map");
    if (!found) {
      wait.textContent =
        "The map cannot be loaded now. Load the page again when the connection is back.";
      return;
    }
    wait.hidden = true;
    part(this.#root, "bar").hidden = false;
    this.#maps.overview = this.#data = found;
    this.#draw();
    // The better one when it is ready: asked for once, unless it failed before.
    const state =
      found.neighbours === "none" && !found.sentence ? await this.#ask("POST", "map", {}) : found;
    if (state) this.#follow(state);
  }

  /** Wait for the layout that keeps neighbours together; show it at once, unless somebody is at work on the overview. */
  async #follow({ neighbours, sentence }) {
    part(this.#root, "coming").textContent = sentence;
    if (neighbours === "waiting")
      this.#poll = setTimeout(
        async () => this.#follow((await this.#ask("GET", "map")) ?? { neighbours, sentence }),
        POLL,
      );
    if (neighbours !== "ready") return;
    const found = await this.#ask("GET", "map?layout=neighbours");
    if (!found || this.#listening.signal.aborted) return;
    this.#maps.neighbours = found;
    const choice = part(this.#root, "layout");
    choice.options[1].disabled = false;
    if (this.#drawing || this.#chosen.size) return;
    choice.value = "neighbours";
    this.#arrange();
  }

  #arrange() {
    this.#data = this.#maps[part(this.#root, "layout").value];
    this.#hide();
    // What is picked stays picked; the line around it was the other map's.
    this.#line = [];
    this.#draw();
  }

  /** The API's answer, or null. */
  async #ask(method, path, body) {
    const token = document.querySelector("meta[name=csrf-token]")?.content ?? "";
    const headers = {
      Accept: "application/json",
      ...(body && { "Content-Type": "application/json", "X-CSRF-Token": token }),
    };
    const reply = await fetch(`${this.#api}/${path}`, {
      method,
      headers,
      body: body && JSON.stringify(body),
    }).catch(() => null);
    return reply?.ok ? reply.json() : null;
  }

  /** Where a point of the data is on the canvas. */
  #at(place) {
    const { x, y, side } = this.#data;
    return [
      this.#left + (x[place] / side) * this.#scale,
      this.#top + (y[place] / side) * this.#scale,
    ];
  }

  get #shown() {
    const { labels, predicted } = this.#data;
    return part(this.#root, "doubt").checked
      ? (place) => labels[place] !== predicted[place]
      : () => true;
  }

  #draw() {
    if (!this.#data) return;
    const canvas = part(this.#root, "canvas");
    const { width, height } = canvas.getBoundingClientRect();
    const dots = devicePixelRatio || 1;
    canvas.width = width * dots;
    canvas.height = height * dots;
    const pen = canvas.getContext("2d");
    pen.scale(dots, dots);
    // One scale for both directions: distances mean the same.
    const [across, down] = [largest(this.#data.x), largest(this.#data.y)];
    const grown = Math.min((width - 2 * EDGE) / (across || 1), (height - 2 * EDGE) / (down || 1));
    [this.#scale, this.#left, this.#top] = [
      this.#data.side * grown,
      (width - across * grown) / 2,
      (height - down * grown) / 2,
    ];
    const { colours, of } = this.#colours();
    const size = this.#data.image_ids.length > 5000 ? 2 : this.#data.image_ids.length > 800 ? 4 : 7;
    const shown = this.#shown;
    const near = new Near(24);
    for (let place = 0; place < of.length; place++) {
      if (!shown(place)) continue;
      const [x, y] = this.#at(place);
      near.add(place, x, y);
      pen.globalAlpha = this.#chosen.size && !this.#chosen.has(place) ? 0.25 : 0.85;
      pen.fillStyle = colours[of[place]];
      pen.fillRect(x - size / 2, y - size / 2, size, size);
    }
    this.#near = near;
    this.#outline(pen);
  }

  #outline(pen) {
    if (this.#line.length < 2) return;
    pen.globalAlpha = 1;
    pen.strokeStyle = getComputedStyle(this.#root).color;
    pen.setLineDash([5, 4]);
    pen.beginPath();
    for (const [x, y] of this.#line) pen.lineTo(x, y);
    pen.closePath();
    pen.stroke();
  }

  /** The colour of each value, and each image's value; the legend is painted along. */
  #colours() {
    const by = part(this.#root, "colour").value;
    const style = getComputedStyle(document.documentElement);
    const ink = (name) => style.getPropertyValue(`--${name}`).trim();
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    const { class_names: classes, decision_names: decisions } = this.#data;
    const tones = { remove: "bad", keep: "ok", relabel: "info", unsure: "warn" };
    const names =
      by === "decisions"
        ? decisions.map((name) => ({ relabel: "new label" })[name] ?? name ?? "not yet decided")
        : classes;
    const colours =
      by === "decisions"
        ? decisions.map((name) => ink(tones[name] ?? "line-strong"))
        : classes.map(
            (_, place) =>
              `hsl(${(place * 360) / Math.max(classes.length, 1) + 20} ${place % 2 ? 75 : 60}% ${dark ? 62 + (place % 3) * 6 : 38 + (place % 3) * 7}%)`,
          );
    part(this.#root, "legend").replaceChildren(
      ...names.map((name, place) => legend(name, colours[place])),
    );
    return { colours, of: this.#data[by] };
  }

  #begin(event) {
    if (!this.#data || event.button !== 0) return;
    part(this.#root, "canvas").setPointerCapture(event.pointerId);
    this.#hide();
    this.#drawing = true;
    this.#line = [[event.offsetX, event.offsetY]];
  }

  #move(event) {
    if (!this.#data) return;
    if (!this.#drawing) return void this.#hover(event.offsetX, event.offsetY);
    const [x, y] = this.#line.at(-1);
    if (Math.hypot(event.offsetX - x, event.offsetY - y) < 4) return;
    this.#line.push([event.offsetX, event.offsetY]);
    const pen = part(this.#root, "canvas").getContext("2d");
    pen.globalAlpha = 1;
    pen.strokeStyle = getComputedStyle(this.#root).color;
    pen.beginPath();
    pen.moveTo(x, y);
    pen.lineTo(event.offsetX, event.offsetY);
    pen.stroke();
  }

  #end() {
    if (!this.#drawing) return;
    this.#drawing = false;
    const line = this.#line;
    const shown = this.#shown;
    // A click picks the image below it.
    if (line.length < 3) {
      const place = this.#near.nearest(...line[0]);
      return void this.#pick(place === null ? [] : [place]);
    }
    const places = this.#data.image_ids.map((_, place) => place);
    this.#pick(
      places.filter((place) => shown(place) && inside(line, this.#at(place))),
      line,
    );
  }

  #pick(places, line = []) {
    this.#line = line;
    this.#chosen = new Set(places);
    const count = places.length;
    part(this.#root, "picked").textContent = count
      ? `${number.format(count)} ${count === 1 ? "image" : "images"} picked out`
      : "Draw around images to pick them out.";
    part(this.#root, "show").disabled = part(this.#root, "clear").disabled = !count;
    this.#draw();
  }

  /** Keep the selection, and look at it: in the grid it is a view like any other, to decide on as a whole. */
  async #show() {
    const found = await this.#ask("POST", "selections", {
      image_ids: [...this.#chosen].map((place) => this.#data.image_ids[place]),
    });
    if (found) location.href = `/reviews/${this.#root.dataset.review}?selection=${found.id}`;
    else
      part(this.#root, "picked").textContent =
        "The selection cannot be kept now. Try again when the connection is back.";
  }

  #hover(x, y) {
    clearTimeout(this.#timer);
    const place = this.#near.nearest(x, y);
    if (place === null) return this.#hide();
    this.#timer = setTimeout(() => this.#reveal(place), HOVER);
    return undefined;
  }

  #hide() {
    clearTimeout(this.#timer);
    part(this.#root, "seen").hidden = true;
  }

  async #reveal(place) {
    const id = this.#data.image_ids[place];
    if (!this.#cards.has(id)) {
      const found = await this.#ask("GET", `images?image_id=${id}`);
      if (!found) return;
      this.#cards.set(id, found.items[0]);
    }
    const card = this.#cards.get(id);
    const box = part(this.#root, "seen");
    const [image, words] = [box.querySelector("img"), box.querySelector("figcaption")];
    image.src = card.thumbnail;
    words.textContent =
      card.label === card.predicted
        ? card.label_name
        : `${card.label_name} → ${card.predicted_name}`;
    box.hidden = false;
    const [x, y] = this.#at(place);
    const stage = part(this.#root, "stage").getBoundingClientRect();
    const left = x + 12 + box.offsetWidth > stage.width ? x - 12 - box.offsetWidth : x + 12;
    box.style.translate = `${Math.max(0, left)}px ${Math.max(0, Math.min(y, stage.height - box.offsetHeight))}px`;
  }
}

const largest = (values) => values.reduce((most, value) => (value > most ? value : most), 0);

function legend(name, colour) {
  const [item, dot] = [document.createElement("li"), document.createElement("i")];
  dot.style.background = colour;
  item.append(dot, name);
  return item;
}
