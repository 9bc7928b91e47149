// Where the tiles lie: all have one size, so that is arithmetic. In a view that scrolls, only those near the screen are in the page.

export default class TileRows {
  #list;
  #tiles;
  #scrolls;
  #above = 0;
  #shown = "";

  /** `tiles` is everybody's list of all tiles: it may grow. */
  constructor(list, tiles, scrolls) {
    this.#list = list;
    this.#tiles = tiles;
    this.#scrolls = scrolls;
  }

  get columns() {
    return this.#measure().columns;
  }

  /** The first tile that is at least partly in sight. */
  get firstInSight() {
    const { columns, down, top } = this.#measure();
    return this.#tiles[Math.max(0, Math.floor((scrollY - top) / down)) * columns];
  }

  /** The tiles that a band touches, in the page's pixels. */
  under(band) {
    const { columns, width, height, across, down, left, top } = this.#measure();
    const [first, last] = touched(band.left - left, band.right - left, width, across);
    const [above, below] = touched(band.top - top, band.bottom - top, height, down);
    return this.#tiles.filter((_, place) => {
      const [row, column] = [Math.floor(place / columns), place % columns];
      return column >= first && column <= last && row >= above && row <= below;
    });
  }

  /** Have the tiles near the screen in the page, and room for all others. */
  sync() {
    if (!this.#scrolls || !this.#tiles.length) return;
    const { columns, down, top } = this.#measure();
    const rows = Math.ceil(this.#tiles.length / columns);
    const screen = Math.ceil(innerHeight / down);
    const at = Math.min(Math.max(0, Math.floor((scrollY - top) / down)), rows - 1);
    const [first, last] = [Math.max(0, at - screen), Math.min(rows, at + 2 * screen + 1)];
    const shown = [first, last, columns, rows, down].join();
    if (shown === this.#shown) return;
    this.#shown = shown;
    this.#above = first * down;
    this.#show(this.#tiles.slice(first * columns, last * columns));
    // Not as custom properties: those are inherited, and every tile's style would be worked out anew.
    this.#list.style.paddingTop = `calc(var(--gap-small) + ${this.#above}px)`;
    this.#list.style.paddingBottom = `calc(var(--gap-small) + ${(rows - last) * down}px)`;
  }

  /** Bring a tile that is far away into the page and into sight. */
  reveal(tile) {
    if (tile.isConnected) return;
    const { columns, down, top } = this.#measure();
    scrollTo(0, top + Math.floor(this.#tiles.indexOf(tile) / columns) * down - innerHeight / 2);
    this.sync();
  }

  #show(tiles) {
    const wanted = new Set(tiles);
    for (const tile of [...this.#list.children]) if (!wanted.has(tile)) tile.remove();
    let there = this.#list.firstElementChild;
    for (const tile of wanted) {
      if (tile === there) there = there.nextElementSibling;
      else this.#list.insertBefore(tile, there);
    }
  }

  /** A tile's size, the way from one to the next, and where the first would be. */
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
      top: list.top + scrollY + parseFloat(style.paddingTop) - this.#above,
    };
  }
}

/** First and last of a row of equal things, `step` apart, that a stretch touches. */
function touched(from, to, size, step) {
  return [Math.max(0, Math.floor((from - size) / step) + 1), Math.ceil(to / step) - 1];
}
