// Keys by their place on the keyboard, for layouts that type no Latin letters or digits there.

// What a US keyboard has in these places, without and with Shift.
const PLACES = { Slash: "/?", Minus: "-_", Equal: "=+" };

/** Letters and digits of other scripts, and keys that an input method keeps to itself. */
const isForeign = (key) =>
  key === "Process" ||
  key === "Unidentified" ||
  (/^[\p{L}\p{M}\p{Nd}؟]/u.test(key) && !/[0-9\p{Script=Latin}]/u.test(key));

const isCharacter = (key) => [...key].length === 1;

/** The character that a US keyboard types in an event's place; null where the layout decides. */
export function findPlacedKey({ key, code = "", shiftKey }) {
  if (!key || !isForeign(key)) return null;
  const letter = /^Key([A-Z])$/.exec(code)?.[1];
  if (letter) return shiftKey ? letter : letter.toLowerCase();
  return PLACES[code]?.[shiftKey ? 1 : 0] ?? null;
}

/** The digit of an event, as typed; null for other keys. */
export const findTypedDigit = ({ key }) => (/^[0-9]$/.test(key) ? Number(key) : null);

/** The digit printed in an event's place, such as French é on 2; null for other keys. */
export function findPlacedDigit({ key, code = "", shiftKey }) {
  const [, row, digit] = /^(Digit|Numpad)([0-9])$/.exec(code) ?? [];
  if (digit === undefined) return null;
  // With Shift, such layouts type the digit itself; the number pad may move the cursor.
  const placed =
    isForeign(key) || (row === "Digit" && !shiftKey && (isCharacter(key) || key === "Dead"));
  return placed ? Number(digit) : null;
}
