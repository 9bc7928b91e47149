// The size of the tiles, as the user sets it, kept in the browser.
import { part } from "../page-parts.js";

const STORAGE_KEY = "winnow:tile-size";

export function offerSize(root) {
  const label = part(root, "size");
  const slider = label.querySelector("input");
  const apply = () => part(root, "tiles")?.style.setProperty("--tile", `${slider.value}px`);
  label.hidden = false;
  try {
    slider.value = localStorage.getItem(STORAGE_KEY) ?? slider.value;
  } catch {
    // Without storage it stays at the default.
  }
  if (slider.value !== slider.defaultValue) apply();
  slider.addEventListener("input", () => {
    apply();
    try {
      localStorage.setItem(STORAGE_KEY, slider.value);
    } catch {
      // Without storage it lasts for this page.
    }
  });
}
