// Asks before a decision reaches images on other pages.
import { part } from "../page-parts.js";

/** Show the question; resolves to true for yes, false for Esc and no. */
export function askFirst(root, question) {
  const dialog = part(root, "ask");
  part(dialog, "question").textContent = question;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}
