// A picture that cannot be loaded says so in its place; you can still decide on it.

export function markMissingImages(root, signal) {
  const mark = (image, missing) =>
    image.closest('[data-part="window"], .tile__link')?.toggleAttribute("data-missing", missing);
  const update = ({ type, target }) => {
    if (target instanceof HTMLImageElement) mark(target, type === "error");
  };
  // Neither event bubbles.
  for (const type of ["error", "load"])
    root.addEventListener(type, update, { signal, capture: true });
  for (const image of root.querySelectorAll("img"))
    if (image.complete && !image.naturalWidth) mark(image, true);
}
