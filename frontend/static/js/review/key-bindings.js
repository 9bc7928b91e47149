// The keys of the review, as the user sets them, kept in the browser.
// Digits, Esc and Ctrl+Z are fixed. A character that names no act counts by its place.

import { findPlacedDigit, findPlacedKey, findTypedDigit } from "./keyboard-layouts.js";

const STORAGE_KEY = "winnow:keys";
const DEFAULT_KEYS = {
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
const REPEATABLE = new Set(["previous", "following", "above", "below"]);
const KEY_NAMES = {
  " ": "Space",
  ArrowLeft: "←",
  ArrowRight: "→",
  ArrowUp: "↑",
  ArrowDown: "↓",
  Delete: "Del",
  Backspace: "⌫",
};
const TYPING =
  "input:not([type=checkbox], [type=radio], [type=button], [type=submit]), textarea, select, " +
  "[contenteditable]";

let changedKeys = loadKeys();
addEventListener("storage", ({ key }) => {
  if (key === STORAGE_KEY) changedKeys = loadKeys();
});

function loadKeys() {
  try {
    const found = Object.entries(JSON.parse(localStorage.getItem(STORAGE_KEY)) ?? {});
    const usable = Object.fromEntries(
      found.filter(([act, key]) => act in DEFAULT_KEYS && typeof key === "string"),
    );
    const keys = Object.values({ ...DEFAULT_KEYS, ...usable });
    return new Set(keys).size === keys.length ? usable : {};
  } catch {
    return {};
  }
}

function saveKeys(keys) {
  changedKeys = keys;
  try {
    localStorage.setItem(STORAGE_KEY, JSON.stringify(keys));
  } catch {
    /* without storage the keys last for this page */
  }
}

const allKeys = () => ({ ...DEFAULT_KEYS, ...changedKeys });
const findAct = (key) => Object.keys(DEFAULT_KEYS).find((act) => allKeys()[act] === key);
const isLetter = (key) => key.length === 1 && key.toLowerCase() !== key.toUpperCase();

export const keyOf = (act) => allKeys()[act];
export const hasDefaultKeys = () =>
  Object.keys(DEFAULT_KEYS).every((act) => allKeys()[act] === DEFAULT_KEYS[act]);
export const resetKeys = () => saveKeys({});

/** A key as printed on the keyboard. */
export function formatKey(key) {
  if (key.startsWith("Shift+")) return `Shift ${formatKey(key.slice(6))}`;
  return KEY_NAMES[key] ?? (key.length === 1 ? key.toUpperCase() : key);
}

/** The name of a character; Shift counts for letters only. */
function nameCharacter(key, shiftKey) {
  if (!isLetter(key)) return key;
  return shiftKey ? `Shift+${key.toLowerCase()}` : key.toLowerCase();
}

/** The name of a keydown event's key: of its place, where the layout has no Latin letter there. */
export const nameKey = (event) => nameCharacter(findPlacedKey(event) ?? event.key, event.shiftKey);

/** Explain why a key cannot be assigned; empty when it can. */
export function explainRefusal(event) {
  if ((findTypedDigit(event) ?? findPlacedDigit(event)) !== null)
    return "Digits give labels. Choose another key.";
  if (event.ctrlKey || event.altKey || event.metaKey)
    return "Ctrl, Alt and the system's key belong to the browser. Choose a key alone.";
  const { length } = findPlacedKey(event) ?? event.key;
  return length === 1 || event.key === "Enter" || event.key in KEY_NAMES
    ? ""
    : `“${event.key}” belongs to the browser. Choose another key.`;
}

/** Assign a key to an act. The act that had the key takes the old key, and is returned. */
export function assignKey(act, key) {
  const other = findAct(key);
  if (other === act) return null;
  saveKeys({ ...changedKeys, ...(other && { [other]: keyOf(act) }), [act]: key });
  return other ?? null;
}

/**
 * The act of a keydown event as {act, digit?, extend}; null when the key is not ours.
 * `elsewhere`: acts that this view does not have.
 */
export function findActOf(event, elsewhere = []) {
  const target = event.target instanceof Element ? event.target : document.body;
  if (event.isComposing || event.altKey || event.metaKey) return null;
  if (document.querySelector("dialog[open]") || target.closest(TYPING)) return null;
  const { act, digit } = matchAct(event, elsewhere);
  // A key held down keeps moving the cursor, but decides once.
  if (!act || (event.repeat && !REPEATABLE.has(act))) return null;
  // Enter and Space press a focused button or link. A button of a dialog that has just closed
  // keeps the focus for one more frame, so it must be visible.
  const control = target.closest("button, summary, a:not(.tile__link)");
  if ((event.key === "Enter" || event.key === " ") && control?.checkVisibility()) return null;
  return { act, digit, extend: event.shiftKey };
}

function matchAct(event, elsewhere) {
  const typed = nameCharacter(event.key, event.shiftKey);
  const placed = nameKey(event);
  if (event.ctrlKey) return { act: { z: "undo", "Shift+z": "redo", y: "redo" }[placed] };
  if (event.key === "Escape") return { act: "leave" };
  const digit = findTypedDigit(event);
  if (digit !== null) return { act: "relabel", digit };
  const act = matchName(typed);
  if (act && !elsewhere.includes(act)) return { act };
  const digitHere = findPlacedDigit(event);
  if (digitHere !== null) return { act: "relabel", digit: digitHere };
  return { act: matchName(placed) };
}

// On most keyboards + is Shift and =.
const matchName = (name) =>
  findAct(name) ?? findAct(name.replace("Shift+", "")) ?? (name === "=" ? findAct("+") : undefined);
