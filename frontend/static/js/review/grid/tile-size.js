// The size of the tiles, as the person likes it; kept in the browser.
import { part } from "../page-parts.js";

const KEPT = "winnow:tile-size";

export function offerSize(root) {
  const label = part(root, "size");
  const slider = label.querySelector("input");
  const show = () => part(root, "tiles")?.style.setProperty("--tile", `${slider.value}px`);
  label.hidden = false;
  try {
    slider.value = localStorage.getItem(KEPT) ?? slider.value;
  } catch {
    /* no storage: the usual size */
  }
  if (slider.value !== slider.defaultValue) show();
  slider.addEventListener("input", () => {
    show();
    try {
      localStorage.setItem(KEPT, slider.value);
    } catch {
      /* no storage: for this page only */
    }
  });
}
