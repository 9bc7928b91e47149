// The second click of a double click decides nothing: no one has seen the next image yet.

const INTERVAL = 400; // milliseconds

export function ignoreDoubleClicks(root, signal) {
  let last = -Infinity;
  root.addEventListener(
    "click",
    (event) => {
      // A button pressed by key reports no click count.
      if (!event.target.closest(".decide") || !event.detail) return;
      if (event.detail > 1 && event.timeStamp - last < INTERVAL) event.preventDefault();
      last = event.timeStamp;
    },
    { signal, capture: true },
  );
}
