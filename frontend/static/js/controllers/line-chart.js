// Loss and accuracy by epoch; asks for more each second while the training runs, then stops by itself.
import "../vendor/chart-4.6.1.umd.min.js";

const LINES = {
  accuracy: {
    title: "Accuracy",
    scale: 100,
    suffix: " %",
    keys: { train_accuracy: "Training", validation_accuracy: "Validation" },
  },
  loss: {
    title: "Loss",
    scale: 1,
    suffix: "",
    keys: { train_loss: "Training", validation_loss: "Validation" },
  },
};

const number = (value) => (value === null ? "–" : String(Number(value.toPrecision(4))));
const percent = (value) => (value === null ? "–" : `${(100 * value).toFixed(1)}\u00a0%`);

export default class {
  #root;
  #charts = {};
  #timer;
  #epochs = [];
  #scheme = matchMedia("(prefers-color-scheme: dark)");
  #redraw = () => this.#draw();

  constructor(root) {
    this.#root = root;
    const epochs = JSON.parse(root.querySelector("[data-part=epochs]").textContent);
    this.#paint(epochs);
    this.#draw();
    this.#scheme.addEventListener("change", this.#redraw);
    if (root.dataset.active === "true") this.#later();
  }

  disconnect() {
    clearTimeout(this.#timer);
    this.#scheme.removeEventListener("change", this.#redraw);
    this.#clear();
  }

  #clear() {
    for (const chart of Object.values(this.#charts)) chart.destroy();
    this.#charts = {};
  }

  #draw() {
    this.#clear();
    for (const name of Object.keys(LINES)) this.#charts[name] = this.#chart(name);
    this.#paint(this.#epochs);
  }

  #later() {
    this.#timer = setTimeout(() => this.#ask(), 1000);
  }

  async #ask() {
    try {
      const reply = await fetch(this.#root.dataset.url);
      if (!reply.ok) return;
      const { active, epochs } = await reply.json();
      this.#paint(epochs);
      if (active) this.#later();
    } catch {
      this.#later();
    }
  }

  #paint(epochs) {
    this.#epochs = epochs;
    if (epochs.length)
      this.#root.querySelector("[data-part=told]").textContent =
        `After epoch ${epochs.at(-1).epoch}.`;
    this.#fillTable(epochs);
    for (const [name, chart] of Object.entries(this.#charts)) {
      const { keys, scale } = LINES[name];
      chart.data.labels = epochs.map(({ epoch }) => epoch);
      Object.keys(keys).forEach((key, place) => {
        chart.data.datasets[place].data = epochs.map((epoch) => epoch[key] * scale);
      });
      // Before there is anything to fit them to, the axes show all that there can be.
      Object.assign(
        chart.options.scales.y,
        epochs.length ? { min: undefined, max: undefined } : { min: 0, max: scale },
      );
      chart.update("none");
    }
  }

  // The same numbers as a table, for whoever cannot see the curves; the server's rows stay as they are.
  #fillTable(epochs) {
    const rows = this.#root.querySelector("[data-part=rows]");
    for (const epoch of epochs.slice(rows.rows.length)) {
      const row = rows.insertRow();
      for (const text of [
        epoch.epoch,
        number(epoch.train_loss),
        percent(epoch.train_accuracy),
        number(epoch.validation_loss),
        percent(epoch.validation_accuracy),
        number(epoch.learning_rate),
        `${number(epoch.seconds)} s`,
      ]) {
        const cell = row.insertCell();
        cell.textContent = text;
        if (row.cells.length > 1) cell.className = "number";
      }
    }
  }

  #chart(name) {
    const { title, keys, suffix } = LINES[name];
    const style = getComputedStyle(document.documentElement);
    const colour = (token) => style.getPropertyValue(token).trim();
    const colours = [colour("--arm-before"), colour("--arm-cleaned")];
    const axis = { ticks: { color: colour("--ink-soft") }, grid: { color: colour("--line") } };
    return new globalThis.Chart(this.#root.querySelector(`[data-part=${name}]`), {
      type: "line",
      data: {
        labels: [],
        datasets: Object.values(keys).map((label, place) => ({
          label,
          data: [],
          borderColor: colours[place],
          backgroundColor: colours[place],
          borderDash: place ? [] : [5, 4],
          pointRadius: 2,
          tension: 0.2,
        })),
      },
      options: {
        animation: false,
        maintainAspectRatio: false,
        plugins: {
          title: { display: true, text: title, color: colour("--ink") },
          legend: {
            labels: {
              color: colour("--ink"),
              usePointStyle: true,
              pointStyle: "line",
              pointStyleWidth: 28,
            },
          },
        },
        scales: {
          x: {
            ...axis,
            ticks: { ...axis.ticks, maxRotation: 0 },
            title: { display: true, text: "Epoch", color: colour("--ink-soft") },
          },
          y: {
            ...axis,
            ticks: { ...axis.ticks, callback: (value) => `${number(value)}${suffix}` },
          },
        },
      },
    });
  }
}
