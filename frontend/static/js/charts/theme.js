// Chart.js in the colours of the page, light or dark.
import "../vendor/chart-4.6.1.umd.min.js";

export const { Chart } = globalThis;

/** The value of a colour token. */
export const ink = (token) =>
  getComputedStyle(document.documentElement).getPropertyValue(`--${token}`).trim();

/** Call draw() now, and again when the system turns dark or light. */
export function drawInScheme(draw, signal) {
  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw, { signal });
}
