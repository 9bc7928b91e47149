// Draws a verdict: each arm's accuracy with every fresh start as a dot, the gain with its 95 % interval, and the learning curves.
// The numbers come from the JSON script block inside, and the canvases wait there too; the page's tables say the same in words.
const LIBRARY = "/static/js/vendor/chart-4.6.1.umd.min.js";
const ARMS = ["before", "cleaned", "random"];
// From one arm's mark to the next, where the way from seed to seed is 1.
const BESIDE = 0.25;

export default class VerdictChart {
  #element;
  #data;
  #charts = [];
  #gone = false;
  #scheme = matchMedia("(prefers-color-scheme: dark)");
  #redraw = () => this.#draw();

  constructor(element) {
    this.#element = element;
    this.#data = JSON.parse(element.querySelector("script[type='application/json']").textContent);
    this.#scheme.addEventListener("change", this.#redraw);
    if (globalThis.Chart) this.#draw();
    else import(LIBRARY).then(this.#redraw);
  }

  disconnect() {
    this.#gone = true;
    this.#scheme.removeEventListener("change", this.#redraw);
    this.#clear();
  }

  #clear() {
    for (const chart of this.#charts.splice(0)) chart.destroy();
  }

  #draw() {
    if (this.#gone) return;
    this.#clear();
    const style = getComputedStyle(document.documentElement);
    this.ink = (name) => style.getPropertyValue(`--${name}`).trim();
    const { panels, curves } = this.#data;
    this.#chart("gains", this.#gains(panels));
    this.#chart("dots", this.#dots(panels[0]));
    if (curves.length > 1) this.#chart("curves", this.#curves(curves));
  }

  #chart(part, config) {
    this.#charts.push(
      new globalThis.Chart(this.#element.querySelector(`[data-part=${part}]`), config),
    );
  }

  #options(more) {
    globalThis.Chart.defaults.color = this.ink("ink-soft");
    globalThis.Chart.defaults.borderColor = this.ink("line");
    return { animation: false, responsive: true, maintainAspectRatio: false, ...more };
  }

  // A bar from the lower to the upper end of each interval; a dot where the measured gain lies.
  #gains(panels) {
    const rows = panels.flatMap((panel) =>
      panel.gains.map((gain) => ({ ...gain, words: [panel.title, gain.label] })),
    );
    const colours = rows.map((_, n) => this.ink(n % 2 ? "arm-random" : "arm-cleaned"));
    const zero = (context) => (context.tick.value === 0 ? this.ink("ink") : this.ink("line"));
    const bars = {
      type: "bar",
      label: "95 % interval",
      barThickness: 6,
      data: rows.map(({ low, high }) => [low, high]),
      backgroundColor: colours,
    };
    const dots = {
      type: "line",
      label: "Gain",
      showLine: false,
      pointRadius: 6,
      data: rows.map((row) => row.difference),
      pointBackgroundColor: colours,
      pointBorderColor: this.ink("surface"),
      pointBorderWidth: 2,
    };
    const labels = rows.map((row) => row.words);
    const options = this.#options({
      indexAxis: "y",
      scales: { x: { grid: { color: zero } } },
      plugins: { legend: { display: false } },
    });
    return { data: { labels, datasets: [dots, bars] }, options };
  }

  #dots(panel) {
    const seeds = [...new Set(panel.dots.map((dot) => dot.seed))];
    const datasets = panel.arms.map(({ arm, label }) => {
      const colour = this.ink(`arm-${arm}`);
      const mine = panel.dots.filter((dot) => dot.arm === arm);
      // Each arm has its place beside the middle of its seed, so that equal values do not hide each other.
      const data = mine.map(({ seed, accuracy }) => ({
        x: seeds.indexOf(seed) + BESIDE * (ARMS.indexOf(arm) - 1),
        y: accuracy,
      }));
      // Seeds have no order: no line joins them.
      return {
        label,
        data,
        showLine: false,
        borderColor: colour,
        backgroundColor: colour,
        pointStyle: this.#mark(arm),
        pointRadius: 6,
      };
    });
    return { type: "line", data: { datasets }, options: this.#seeds(seeds) };
  }

  /** An axis of seeds with room for the marks at both ends, above and below. */
  #seeds(seeds) {
    const name = (x) => `Seed ${seeds[Math.round(x)]}`;
    const options = this.#legend();
    const middles = (axis) => {
      axis.ticks = seeds.map((_, value) => ({ value }));
    };
    options.scales = {
      x: {
        type: "linear",
        min: -0.5,
        max: seeds.length - 0.5,
        afterBuildTicks: middles,
        ticks: { callback: name },
      },
      y: { grace: "10%" },
    };
    options.plugins.tooltip = { callbacks: { title: ([point]) => name(point.parsed.x) } };
    return options;
  }

  #curves(curves) {
    const datasets = curves.map(({ arm, label, points }) => {
      const colour = this.ink(`arm-${arm}`);
      return {
        label,
        data: points.map(([, y]) => y),
        borderColor: colour,
        backgroundColor: colour,
        pointStyle: this.#mark(arm),
        pointRadius: 3,
        borderWidth: 2,
      };
    });
    return {
      type: "line",
      data: { labels: curves[0].points.map(([epoch]) => epoch), datasets },
      options: this.#legend(),
    };
  }

  #mark(arm) {
    return ["circle", "rectRot", "triangle"][ARMS.indexOf(arm)];
  }

  #legend() {
    return this.#options({
      plugins: { legend: { position: "bottom", labels: { usePointStyle: true } } },
    });
  }
}
