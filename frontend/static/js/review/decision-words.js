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

/** The decision to show until the server confirms it. */
export function expectDecision(root, action, label) {
  const name = part(root, "label").options[Number(label) + 1]?.text;
  return { action, label, words: WORDS[action] ?? `Now: ${name}`, by_id: null };
}
