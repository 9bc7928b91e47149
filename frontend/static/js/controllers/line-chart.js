// The learning curves of a training; polls every second while it runs.
import { createCurve, formatNumber, MEASURES, updateCurve } from "../charts/learning-curve.js";
import { drawInScheme } from "../charts/theme.js";

const formatPercent = (value) => (value === null ? "–" : `${(100 * value).toFixed(1)}\u00a0%`);

export default class {
  #root;
  #charts = {};
  #timer;
  #epochs;
  #listening = new AbortController();

  constructor(root) {
    this.#root = root;
    this.#epochs = JSON.parse(this.#part("epochs").textContent);
    drawInScheme(() => this.#draw(), this.#listening.signal);
    if (root.dataset.active === "true") this.#schedulePoll();
  }

  disconnect() {
    clearTimeout(this.#timer);
    this.#listening.abort();
    this.#clear();
  }

  #part(name) {
    return this.#root.querySelector(`[data-part=${name}]`);
  }

  #clear() {
    for (const chart of Object.values(this.#charts)) chart.destroy();
    this.#charts = {};
  }

  #draw() {
    this.#clear();
    for (const [name, measure] of Object.entries(MEASURES))
      this.#charts[name] = createCurve(this.#part(name), measure);
    this.#update(this.#epochs);
  }

  #schedulePoll() {
    this.#timer = setTimeout(() => this.#poll(), 1000);
  }

  async #poll() {
    try {
      const reply = await fetch(this.#root.dataset.url);
      if (!reply.ok) return;
      const { active, epochs } = await reply.json();
      this.#update(epochs);
      if (active) this.#schedulePoll();
    } catch {
      this.#schedulePoll();
    }
  }

  #update(epochs) {
    this.#epochs = epochs;
    if (epochs.length) this.#part("latest").textContent = `After epoch ${epochs.at(-1).epoch}.`;
    this.#fillTable(epochs);
    for (const [name, chart] of Object.entries(this.#charts))
      updateCurve(chart, MEASURES[name], epochs);
  }

  /** Append the new epochs to the table for those who cannot see the curves. */
  #fillTable(epochs) {
    const rows = this.#part("rows");
    for (const epoch of epochs.slice(rows.rows.length)) {
      const row = rows.insertRow();
      const cells = [
        epoch.epoch,
        formatNumber(epoch.train_loss),
        formatPercent(epoch.train_accuracy),
        formatNumber(epoch.validation_loss),
        formatPercent(epoch.validation_accuracy),
        formatNumber(epoch.learning_rate),
        `${formatNumber(epoch.seconds)} s`,
      ];
      for (const text of cells) {
        const cell = row.insertCell();
        cell.textContent = text;
        if (row.cells.length > 1) cell.className = "number";
      }
    }
  }
}
