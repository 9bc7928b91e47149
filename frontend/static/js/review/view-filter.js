// The filters of a view, from its address to what the API takes; the names are the same.

const PLACE = new Set(["order", "size", "after", "before", "at", "from", "limit"]);
const WORDS = new Set(["decision"]);

/** The filters of an address as the API's JSON. */
export function filterOf(view) {
  const filter = {};
  for (const [name, value] of new URLSearchParams(view))
    if (!PLACE.has(name)) filter[name] = WORDS.has(name) ? value : Number(value);
  return filter;
}

/** Whether the filters themselves say which decisions to show; where they do not, decided images are left alone. */
export const saysWhichDecided = (filter) =>
  ["decision", "by", "not_by"].some((name) => name in filter);
