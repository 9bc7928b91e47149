// A double click is one click: in so short a time nobody has looked at the image that came up after the first.

const WITHIN = 400; // milliseconds

export function ignoreDoubleClicks(root, signal) {
  let last = -Infinity;
  root.addEventListener(
    "click",
    (event) => {
      // By key, a button's click has no count.
      if (!event.target.closest(".decide") || !event.detail) return;
      if (event.detail > 1 && event.timeStamp - last < WITHIN) event.preventDefault();
      last = event.timeStamp;
    },
    { signal, capture: true },
  );
}
