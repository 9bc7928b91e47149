// The parts of a review's page, by name, and its progress.

const number = new Intl.NumberFormat("en-US");

export const part = (root, name) => root.querySelector(`[data-part="${name}"]`);

export function paintProgress(root, progress) {
  for (const field of root.querySelectorAll("[data-count]"))
    field.textContent = number.format(progress[field.dataset.count]);
  part(root, "bar").value = progress.decided;
  part(root, "advice").textContent = progress.sentence;
  // Where a verdict waits, that is the next step.
  part(root, "next-step")?.classList.toggle("button--primary", progress.stop);
  const standing = part(root, "standing");
  if (standing?.open) standing.dispatchEvent(new Event("refresh"));
}
