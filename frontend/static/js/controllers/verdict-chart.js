// Draws a verdict's charts from the JSON inside; the page's tables hold the same numbers.
import { Chart, drawInScheme } from "../charts/theme.js";
import { configureCurves, configureDots, configureGains } from "../charts/verdict.js";

export default class {
  #element;
  #data;
  #charts = [];
  #listening = new AbortController();

  constructor(element) {
    this.#element = element;
    this.#data = JSON.parse(element.querySelector("script[type='application/json']").textContent);
    drawInScheme(() => this.#draw(), this.#listening.signal);
  }

  disconnect() {
    this.#listening.abort();
    this.#clear();
  }

  #clear() {
    for (const chart of this.#charts.splice(0)) chart.destroy();
  }

  #draw() {
    this.#clear();
    const { panels, curves } = this.#data;
    this.#add("gains", configureGains(panels));
    this.#add("dots", configureDots(panels[0]));
    if (curves.length > 1) this.#add("curves", configureCurves(curves));
  }

  #add(part, config) {
    this.#charts.push(new Chart(this.#element.querySelector(`[data-part=${part}]`), config));
  }
}
