// The filters of a view: from its address to the API's JSON, under the same names.

const NOT_FILTERS = new Set(["order", "size", "after", "before", "at", "from", "limit"]);
const TEXT_FILTERS = new Set(["decision"]);

/** Parse the filters of an address. */
export function parseFilter(view) {
  const filter = {};
  for (const [name, value] of new URLSearchParams(view))
    if (!NOT_FILTERS.has(name)) filter[name] = TEXT_FILTERS.has(name) ? value : Number(value);
  return filter;
}

/** True where the filter chooses by decision; elsewhere, decided images are left alone. */
export const filtersByDecision = (filter) =>
  ["decision", "by", "not_by"].some((name) => name in filter);
