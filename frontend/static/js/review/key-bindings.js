// Which act a key stands for: one map, as the person likes it, kept in the browser. Digits, Esc and Ctrl+Z are not for changing.

const KEPT = "winnow:keys";
const USUAL = {
  remove: "e",
  keep: "k",
  unsure: "u",
  suggested: "s",
  label: "l",
  undo: "z",
  redo: "Shift+z",
  closer: "+",
  farther: "-",
  fit: "f",
  previous: "ArrowLeft",
  following: "ArrowRight",
  above: "ArrowUp",
  below: "ArrowDown",
  select: " ",
  all: "a",
  open: "Enter",
  filter: "/",
  keys: "?",
};
const MOVES = new Set(["previous", "following", "above", "below"]);
const WORDS = {
  " ": "Space",
  ArrowLeft: "←",
  ArrowRight: "→",
  ArrowUp: "↑",
  ArrowDown: "↓",
  Delete: "Del",
  Backspace: "⌫",
};
const TYPING =
  "input:not([type=checkbox], [type=radio], [type=button], [type=submit]), textarea, select, [contenteditable]";

let changed = kept();
addEventListener("storage", ({ key }) => {
  if (key === KEPT) changed = kept();
});

function kept() {
  try {
    const found = Object.entries(JSON.parse(localStorage.getItem(KEPT)) ?? {});
    const usable = Object.fromEntries(
      found.filter(([act, key]) => act in USUAL && typeof key === "string"),
    );
    const keys = Object.values({ ...USUAL, ...usable });
    return new Set(keys).size === keys.length ? usable : {};
  } catch {
    return {};
  }
}

function keep(map) {
  changed = map;
  try {
    localStorage.setItem(KEPT, JSON.stringify(map));
  } catch {
    /* no storage: for this page only */
  }
}

const map = () => ({ ...USUAL, ...changed });
const actOn = (key) => Object.keys(USUAL).find((act) => map()[act] === key);
const isLetter = (key) => key.length === 1 && key.toLowerCase() !== key.toUpperCase();

export const keyOf = (act) => map()[act];
export const isUsual = () => Object.keys(USUAL).every((act) => map()[act] === USUAL[act]);
export const usualKeys = () => keep({});

/** A key as it stands on the keyboard. */
export function inWords(key) {
  if (key.startsWith("Shift+")) return `Shift ${inWords(key.slice(6))}`;
  return WORDS[key] ?? (key.length === 1 ? key.toUpperCase() : key);
}

/** A keydown event's key by name; Shift makes another key of a letter only. */
export function nameOf(event) {
  if (!isLetter(event.key)) return event.key;
  return event.shiftKey ? `Shift+${event.key.toLowerCase()}` : event.key.toLowerCase();
}

/** Why a key cannot be had for an act, as a sentence; empty when it can. */
export function refusal(event) {
  if (/^[0-9]$/.test(event.key)) return "Digits give labels. Choose another key.";
  if (event.ctrlKey || event.altKey || event.metaKey)
    return "Ctrl, Alt and the system's key belong to the browser. Choose a key alone.";
  return event.key.length === 1 || event.key === "Enter" || event.key in WORDS
    ? ""
    : `“${event.key}” belongs to the browser. Choose another key.`;
}

/** Give an act a key. Whichever act had it takes the old one, and is returned: no key ever has two, no act none. */
export function giveKey(act, key) {
  const other = actOn(key);
  if (other === act) return null;
  keep({ ...changed, ...(other && { [other]: keyOf(act) }), [act]: key });
  return other ?? null;
}

/** The act of a keydown event as {act, digit?, extend}; null when the key is not ours: while typing, in a dialog, with a browser's modifier. */
export function actOf(event) {
  const target = event.target instanceof Element ? event.target : document.body;
  if (event.isComposing || event.altKey || event.metaKey) return null;
  if (document.querySelector("dialog[open]") || target.closest(TYPING)) return null;
  const act = meant(event);
  // Held down, a key goes on moving, but it decides once.
  if (!act || (event.repeat && !MOVES.has(act))) return null;
  // On a button or a link, Enter and Space are the browser's own; not on one of a dialog that was closed just now, which has the focus for a frame more.
  const control = target.closest("button, summary, a:not(.tile__link)");
  if ((event.key === "Enter" || event.key === " ") && control?.checkVisibility()) return null;
  return { act, extend: event.shiftKey, ...(act === "relabel" && { digit: Number(event.key) }) };
}

function meant(event) {
  const name = nameOf(event);
  if (event.ctrlKey) return { z: "undo", "Shift+z": "redo", y: "redo" }[name];
  if (/^[0-9]$/.test(event.key)) return "relabel";
  if (event.key === "Escape") return "leave";
  // On most keyboards + is = with Shift.
  return (
    actOn(name) ?? actOn(name.replace("Shift+", "")) ?? (name === "=" ? actOn("+") : undefined)
  );
}
