// Geometry of the map: points inside a drawn line, and the point nearest to a place.

/** True inside the closed line of [x, y]s: a ray to the right crosses it an odd number of times. */
export function isInside(line, [x, y]) {
  let odd = false;
  for (let end = 0, start = line.length - 1; end < line.length; start = end++) {
    const [[x1, y1], [x2, y2]] = [line[end], line[start]];
    if (y1 > y !== y2 > y && x < ((x2 - x1) * (y - y1)) / (y2 - y1) + x1) odd = !odd;
  }
  return odd;
}

/** An index of points by squares. */
export class PointIndex {
  #side;
  #squares = new Map();

  constructor(side) {
    this.#side = side;
  }

  add(place, x, y) {
    const key = this.#key(x, y);
    if (!this.#squares.has(key)) this.#squares.set(key, []);
    this.#squares.get(key).push([place, x, y]);
  }

  /** The nearest point within half a square's side, or null. */
  findNearest(x, y) {
    let [nearest, shortest] = [null, this.#side / 2];
    for (const dx of [-1, 0, 1]) {
      for (const dy of [-1, 0, 1]) {
        for (const [place, px, py] of this.#squares.get(
          this.#key(x + dx * this.#side, y + dy * this.#side),
        ) ?? []) {
          const distance = Math.hypot(px - x, py - y);
          if (distance < shortest) [nearest, shortest] = [place, distance];
        }
      }
    }
    return nearest;
  }

  #key(x, y) {
    return `${Math.floor(x / this.#side)},${Math.floor(y / this.#side)}`;
  }
}
