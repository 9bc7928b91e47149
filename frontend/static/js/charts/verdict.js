// The charts of a verdict: gains with intervals, a dot for each fresh start, and learning curves.
import { Chart, ink } from "./theme.js";

const MARKS = { before: "circle", cleaned: "rectRot", random: "triangle" };
const ARMS = Object.keys(MARKS);
const SPACING = 0.25; // between the arms of a seed, where seeds are 1 apart

function withDefaults(options) {
  Chart.defaults.color = ink("ink-soft");
  Chart.defaults.borderColor = ink("line");
  return { animation: false, responsive: true, maintainAspectRatio: false, ...options };
}

const withLegend = () =>
  withDefaults({ plugins: { legend: { position: "bottom", labels: { usePointStyle: true } } } });

/** A bar for each 95 % interval, and a dot at the measured gain. */
export function configureGains(panels) {
  const rows = panels.flatMap((panel) =>
    panel.gains.map((gain) => ({ ...gain, words: [panel.title, gain.label] })),
  );
  const colours = rows.map((_, n) => ink(n % 2 ? "arm-random" : "arm-cleaned"));
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
    pointBorderColor: ink("surface"),
    pointBorderWidth: 2,
  };
  const color = (context) => ink(context.tick.value === 0 ? "ink" : "line");
  const options = withDefaults({
    indexAxis: "y",
    scales: { x: { grid: { color } } },
    plugins: { legend: { display: false } },
  });
  return { data: { labels: rows.map((row) => row.words), datasets: [dots, bars] }, options };
}

/** Each fresh start's accuracy by seed; seeds have no order, so no line joins them. */
export function configureDots(panel) {
  const seeds = [...new Set(panel.dots.map((dot) => dot.seed))];
  const datasets = panel.arms.map(({ arm, label }) => {
    const colour = ink(`arm-${arm}`);
    const dots = panel.dots.filter((dot) => dot.arm === arm);
    // The arms of a seed stand side by side: equal values would hide each other.
    const shift = SPACING * (ARMS.indexOf(arm) - 1);
    return {
      label,
      data: dots.map(({ seed, accuracy }) => ({ x: seeds.indexOf(seed) + shift, y: accuracy })),
      showLine: false,
      borderColor: colour,
      backgroundColor: colour,
      pointStyle: MARKS[arm],
      pointRadius: 6,
    };
  });
  return { type: "line", data: { datasets }, options: configureSeedAxes(seeds) };
}

/** Axes with room for the marks on every side. */
function configureSeedAxes(seeds) {
  const nameSeed = (x) => `Seed ${seeds[Math.round(x)]}`;
  const options = withLegend();
  options.scales = {
    x: {
      type: "linear",
      min: -0.5,
      max: seeds.length - 0.5,
      afterBuildTicks: (axis) => {
        axis.ticks = seeds.map((_, value) => ({ value }));
      },
      ticks: { callback: nameSeed },
    },
    y: { grace: "10%" },
  };
  options.plugins.tooltip = { callbacks: { title: ([point]) => nameSeed(point.parsed.x) } };
  return options;
}

/** Each arm's validation accuracy by epoch. */
export function configureCurves(curves) {
  const datasets = curves.map(({ arm, label, points }) => {
    const colour = ink(`arm-${arm}`);
    return {
      label,
      data: points.map(([, accuracy]) => accuracy),
      borderColor: colour,
      backgroundColor: colour,
      pointStyle: MARKS[arm],
      pointRadius: 3,
      borderWidth: 2,
    };
  });
  const labels = curves[0].points.map(([epoch]) => epoch);
  return { type: "line", data: { labels, datasets }, options: withLegend() };
}
