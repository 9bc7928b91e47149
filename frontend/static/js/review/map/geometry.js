// Geometry of the map: whether a point lies inside a drawn line, and which point is nearest to a place.

/** Whether [x, y] lies inside the closed line of [x, y]s: a ray to the right crosses it an odd number of times. */
export function inside(line, [x, y]) {
  let odd = false;
  for (let one = 0, before = line.length - 1; one < line.length; before = one++) {
    const [[x1, y1], [x2, y2]] = [line[one], line[before]];
    if (y1 > y !== y2 > y && x < ((x2 - x1) * (y - y1)) / (y2 - y1) + x1) odd = !odd;
  }
  return odd;
}

/** Points in squares of a side, so that the nearest one is found among few. */
export class Near {
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

  /** The nearest point no farther than half a side, or null. */
  nearest(x, y) {
    let [found, least] = [null, this.#side / 2];
    for (const dx of [-1, 0, 1]) {
      for (const dy of [-1, 0, 1]) {
        for (const [place, px, py] of this.#squares.get(
          this.#key(x + dx * this.#side, y + dy * this.#side),
        ) ?? []) {
          const away = Math.hypot(px - x, py - y);
          if (away < least) [found, least] = [place, away];
        }
      }
    }
    return found;
  }

  #key(x, y) {
    return `${Math.floor(x / this.#side)},${Math.floor(y / this.#side)}`;
  }
}
