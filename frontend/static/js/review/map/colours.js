// The colours of the map's points, by class or by decision.

const TONES = { remove: "bad", keep: "ok", relabel: "info", unsure: "warn" };
const DECISION_NAMES = { relabel: "new label" };

/** Name and colour of each value that `by` takes: labels, predicted or decisions. */
export function listColours({ class_names: classes, decision_names: decisions }, by) {
  if (by !== "decisions") return classes.map((name, n) => ({ name, colour: tint(n, classes) }));
  const style = getComputedStyle(document.documentElement);
  return decisions.map((decision) => ({
    name: DECISION_NAMES[decision] ?? decision ?? "not yet decided",
    colour: style.getPropertyValue(`--${TONES[decision] ?? "line-strong"}`).trim(),
  }));
}

/** One of many hues; neighbouring classes differ in saturation and lightness too. */
function tint(n, classes) {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const hue = (n * 360) / Math.max(classes.length, 1) + 20;
  const lightness = dark ? 62 + (n % 3) * 6 : 38 + (n % 3) * 7;
  return `hsl(${hue} ${n % 2 ? 75 : 60}% ${lightness}%)`;
}

/** One entry of the legend. */
export function createLegendEntry({ name, colour }) {
  const [item, dot] = [document.createElement("li"), document.createElement("i")];
  dot.style.background = colour;
  item.append(dot, name);
  return item;
}
