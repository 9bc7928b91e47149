// The points of a map on a canvas, and the line drawn around some of them.
import { PointIndex } from "./geometry.js";

const MARGIN = 14;
const CELL = 24; // pixels; a point is found within half of it

export default class Plot {
  #canvas;
  #data;
  #scale = 1;
  #left = MARGIN;
  #top = MARGIN;
  #index;

  constructor(canvas) {
    this.#canvas = canvas;
  }

  /** The image's place on the canvas, as [x, y]. */
  locate(place) {
    const { x, y, side } = this.#data;
    return [
      this.#left + (x[place] / side) * this.#scale,
      this.#top + (y[place] / side) * this.#scale,
    ];
  }

  findNearest(x, y) {
    return this.#index.findNearest(x, y);
  }

  /** Draw the visible points; those not selected fade while some are. */
  draw(data, { colourOf, isVisible, selected, line }) {
    this.#data = data;
    const pen = this.#prepare();
    const count = data.image_ids.length;
    const size = count > 5000 ? 2 : count > 800 ? 4 : 7;
    this.#index = new PointIndex(CELL);
    for (let place = 0; place < count; place++) {
      if (!isVisible(place)) continue;
      const [x, y] = this.locate(place);
      this.#index.add(place, x, y);
      pen.globalAlpha = selected.size && !selected.has(place) ? 0.25 : 0.85;
      pen.fillStyle = colourOf(place);
      pen.fillRect(x - size / 2, y - size / 2, size, size);
    }
    if (line.length > 1) this.#close(pen, line);
  }

  /** Draw one more piece of the line. */
  extend([x, y], [toX, toY]) {
    const pen = this.#canvas.getContext("2d");
    pen.globalAlpha = 1;
    pen.strokeStyle = getComputedStyle(this.#canvas).color;
    pen.beginPath();
    pen.moveTo(x, y);
    pen.lineTo(toX, toY);
    pen.stroke();
  }

  #prepare() {
    const { width, height } = this.#canvas.getBoundingClientRect();
    const ratio = devicePixelRatio || 1;
    this.#canvas.width = width * ratio;
    this.#canvas.height = height * ratio;
    const pen = this.#canvas.getContext("2d");
    pen.scale(ratio, ratio);
    this.#fit(width, height);
    return pen;
  }

  /** Fit the points into the canvas, with one scale for both directions. */
  #fit(width, height) {
    const [across, down] = [findLargest(this.#data.x), findLargest(this.#data.y)];
    const scale = Math.min(
      (width - 2 * MARGIN) / (across || 1),
      (height - 2 * MARGIN) / (down || 1),
    );
    this.#scale = this.#data.side * scale;
    this.#left = (width - across * scale) / 2;
    this.#top = (height - down * scale) / 2;
  }

  #close(pen, line) {
    pen.globalAlpha = 1;
    pen.strokeStyle = getComputedStyle(this.#canvas).color;
    pen.setLineDash([5, 4]);
    pen.beginPath();
    for (const [x, y] of line) pen.lineTo(x, y);
    pen.closePath();
    pen.stroke();
  }
}

// Math.max takes its arguments on the stack, which is too small for a million.
const findLargest = (values) => values.reduce((most, value) => (value > most ? value : most), 0);
