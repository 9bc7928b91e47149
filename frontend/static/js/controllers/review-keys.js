// Which act a key stands for. Nothing while typing, in a dialog, on a held key, or with a modifier that belongs to the browser.

const ACTS = {
  e: "remove", k: "keep", u: "unsure", a: "all", l: "label", "/": "filter", "?": "keys",
  " ": "select", Enter: "open", Escape: "leave",
  "+": "closer", "=": "closer", "-": "farther", f: "fit",
  ArrowLeft: "previous", ArrowRight: "following", ArrowUp: "above", ArrowDown: "below",
};
const TYPING = "input:not([type=checkbox], [type=radio], [type=button], [type=submit]), textarea, select, [contenteditable]";

/** The act of a keydown event as {act, digit?, extend}, or null when the key is not ours. */
export function actOf(event) {
  const target = event.target instanceof Element ? event.target : document.body;
  if (event.repeat || event.isComposing || event.altKey || event.metaKey) return null;
  if (document.querySelector("dialog[open]") || target.closest(TYPING)) return null;
  const key = event.key.toLowerCase();
  if (key === "z" || (key === "y" && event.ctrlKey)) return { act: key === "y" || event.shiftKey ? "redo" : "undo", extend: false };
  if (event.ctrlKey) return null;
  if (/^[0-9]$/.test(event.key)) return { act: "relabel", digit: Number(event.key), extend: false };
  const act = ACTS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  // On a button or a link, Enter and Space are the browser's own.
  if ((act === "open" || act === "select") && target.closest("button, summary, a:not(.tile__link)")) return null;
  return act ? { act, extend: event.shiftKey } : null;
}
