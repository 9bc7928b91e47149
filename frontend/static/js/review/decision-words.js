// A decision in words, on a tile and next to a large image.
import { part } from "./page-parts.js";

const WORDS = { remove: "Remove", keep: "Keep", unsure: "Unsure" };

/** The decision's words, with the name of whoever else made it. */
export function describeDecision(decision, user) {
  if (!decision) return "";
  const byOther =
    decision.by_id !== null && decision.by_id !== undefined && String(decision.by_id) !== user;
  return byOther ? `${decision.words} · ${decision.by ?? "someone"}` : decision.words;
}

/** A class's name, by its number. */
export const nameClass = (root, label) => part(root, "label").options[Number(label) + 1]?.text;

/** The decision to show until the server confirms it. */
export function expectDecision(root, action, label) {
  const words = WORDS[action] ?? `Now: ${nameClass(root, label)}`;
  return { action, label, words, by_id: null };
}
