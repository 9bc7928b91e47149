// The rows of tiles. All tiles have one size, so their places are arithmetic. In a view that
// scrolls, only the rows near the screen are in the page.

export default class TileRows {
  #list;
  #tiles;
  #scrolls;
  #offset = 0;
  #renderedRows = "";

  /** `tiles` is the shared list of all tiles, which grows. */
  constructor(list, tiles, scrolls) {
    this.#list = list;
    this.#tiles = tiles;
    this.#scrolls = scrolls;
  }

  get columns() {
    return this.#measure().columns;
  }

  /** The first tile in sight, at least in part. */
  get firstInSight() {
    const { columns, down, top } = this.#measure();
    return this.#tiles[Math.max(0, Math.floor((scrollY - top) / down)) * columns];
  }

  /** The tiles that a band touches; the band is in page pixels. */
  findUnder(band) {
    const { columns, width, height, across, down, left, top } = this.#measure();
    const [first, last] = findRange(band.left - left, band.right - left, width, across);
    const [above, below] = findRange(band.top - top, band.bottom - top, height, down);
    return this.#tiles.filter((_, place) => {
      const [row, column] = [Math.floor(place / columns), place % columns];
      return column >= first && column <= last && row >= above && row <= below;
    });
  }

  /** Keep the tiles near the screen in the page, and room for the others. */
  sync() {
    if (!this.#scrolls || !this.#tiles.length) return;
    const { columns, down, top } = this.#measure();
    const rows = Math.ceil(this.#tiles.length / columns);
    const screen = Math.ceil(innerHeight / down);
    const at = Math.min(Math.max(0, Math.floor((scrollY - top) / down)), rows - 1);
    const [first, last] = [Math.max(0, at - screen), Math.min(rows, at + 2 * screen + 1)];
    const rendered = [first, last, columns, rows, down].join();
    if (rendered === this.#renderedRows) return;
    this.#renderedRows = rendered;
    this.#offset = first * down;
    this.#render(this.#tiles.slice(first * columns, last * columns));
    // Custom properties are inherited: changing them would restyle every tile.
    this.#list.style.paddingTop = `calc(var(--gap-small) + ${this.#offset}px)`;
    this.#list.style.paddingBottom = `calc(var(--gap-small) + ${(rows - last) * down}px)`;
  }

  /** Scroll to a tile outside the page. */
  reveal(tile) {
    if (tile.isConnected) return;
    const { columns, down, top } = this.#measure();
    scrollTo(0, top + Math.floor(this.#tiles.indexOf(tile) / columns) * down - innerHeight / 2);
    this.sync();
  }

  #render(tiles) {
    const wanted = new Set(tiles);
    for (const tile of [...this.#list.children]) if (!wanted.has(tile)) tile.remove();
    let there = this.#list.firstElementChild;
    for (const tile of wanted) {
      if (tile === there) there = there.nextElementSibling;
      else this.#list.insertBefore(tile, there);
    }
  }

  /** A tile's size, the step to the next tile, and the first tile's place. */
  #measure() {
    const style = getComputedStyle(this.#list);
    const [list, tile] = [this.#list, this.#list.firstElementChild].map((one) =>
      one.getBoundingClientRect(),
    );
    return {
      columns: style.gridTemplateColumns.split(" ").length,
      width: tile.width,
      height: tile.height,
      across: tile.width + parseFloat(style.columnGap),
      down: tile.height + parseFloat(style.rowGap),
      left: list.left + scrollX,
      top: list.top + scrollY + parseFloat(style.paddingTop) - this.#offset,
    };
  }
}

/** First and last of equal items, `step` apart, that a stretch touches. */
function findRange(from, to, size, step) {
  return [Math.max(0, Math.floor((from - size) / step) + 1), Math.ceil(to / step) - 1];
}
