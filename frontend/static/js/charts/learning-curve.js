// Loss or accuracy by epoch, in training and validation.
import { Chart, ink } from "./theme.js";

export const MEASURES = {
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

export const formatNumber = (value) =>
  value === null ? "–" : String(Number(value.toPrecision(4)));

/** An empty chart of one measure. */
export function createCurve(canvas, { title, keys, suffix }) {
  const colours = [ink("arm-before"), ink("arm-cleaned")];
  const ticks = { color: ink("ink-soft") };
  const grid = { color: ink("line") };
  return new Chart(canvas, {
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
        title: { display: true, text: title, color: ink("ink") },
        legend: {
          labels: {
            color: ink("ink"),
            usePointStyle: true,
            pointStyle: "line",
            pointStyleWidth: 28,
          },
        },
      },
      scales: {
        x: {
          ticks: { ...ticks, maxRotation: 0 },
          grid,
          title: { display: true, text: "Epoch", color: ink("ink-soft") },
        },
        y: {
          ticks: { ...ticks, callback: (value) => `${formatNumber(value)}${suffix}` },
          grid,
        },
      },
    },
  });
}

/** Fill a chart with the epochs so far. */
export function updateCurve(chart, { keys, scale }, epochs) {
  chart.data.labels = epochs.map(({ epoch }) => epoch);
  for (const [place, key] of Object.keys(keys).entries())
    chart.data.datasets[place].data = epochs.map((epoch) => epoch[key] * scale);
  // Without epochs the axis shows the measure's usual range.
  const range = epochs.length ? { min: undefined, max: undefined } : { min: 0, max: scale };
  Object.assign(chart.options.scales.y, range);
  chart.update("none");
}
