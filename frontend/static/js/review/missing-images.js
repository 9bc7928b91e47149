// A picture that cannot be had (its file is gone, or the network is) leaves a word in its place; one can decide all the same.

export function showMissing(root, signal) {
  const mark = (image, missing) =>
    image.closest('[data-part="window"], .tile__link')?.toggleAttribute("data-missing", missing);
  const note = ({ type, target }) => {
    if (target instanceof HTMLImageElement) mark(target, type === "error");
  };
  // These two do not bubble.
  for (const type of ["error", "load"])
    root.addEventListener(type, note, { signal, capture: true });
  for (const image of root.querySelectorAll("img"))
    if (image.complete && !image.naturalWidth) mark(image, true);
}
