// What grid and focus view both show: progress, saving state, a decision in words, the keys.

const number = new Intl.NumberFormat("en-US");

export const part = (root, name) => root.querySelector(`[data-part="${name}"]`);

export function paintProgress(root, progress) {
  for (const field of root.querySelectorAll("[data-count]")) field.textContent = number.format(progress[field.dataset.count]);
  part(root, "bar").value = progress.decided;
  part(root, "advice").textContent = progress.sentence;
  part(root, "next-step").classList.toggle("button--primary", progress.stop);
}

export function decisionWords(decision, user) {
  if (!decision) return "";
  const other = decision.by_id !== null && decision.by_id !== undefined && String(decision.by_id) !== user;
  return other ? `${decision.words} · ${decision.by ?? "somebody"}` : decision.words;
}

const WORDS = { remove: "Remove", keep: "Keep", unsure: "Unsure" };

/** The decision that an act will have made, shown before the server confirms it. */
export function expected(root, action, label) {
  const name = part(root, "label").options[Number(label) + 1]?.text;
  return { action, label, words: WORDS[action] ?? `New label: ${name}`, by_id: null };
}

const kept = (count) => `${number.format(count)} ${count === 1 ? "decision is" : "decisions are"} kept in this browser`;

/** Show how the store is doing, and what it had to refuse. */
export function showStatus(root, store) {
  const status = part(root, "status");
  store.addEventListener("state", ({ detail: { state, count } }) => {
    status.dataset.state = state;
    const words = {
      saved: "All saved",
      saving: "Saving…",
      offline: `Offline: ${kept(count)} and sent when the connection is back.`,
      "signed-out": `You are signed out. ${kept(count)} and sent when you are back. `,
    };
    if (status.dataset.refused !== "true" || state !== "saved") status.textContent = words[state];
    status.dataset.refused = "false";
    if (state === "signed-out") status.append(signIn());
  });
  store.addEventListener("refused", ({ detail }) => announce(root, detail.outcome));
}

/** Say something in the status line that stays until the next act. */
export function announce(root, sentence) {
  const status = part(root, "status");
  status.textContent = sentence;
  status.dataset.refused = "true";
}

function signIn() {
  const link = document.createElement("a");
  link.href = `/login?next=${encodeURIComponent(location.pathname + location.search)}`;
  link.target = "_blank";
  link.textContent = "Sign in (opens a new tab)";
  return link;
}

export function offerKeys(root) {
  const button = part(root, "show-keys");
  button.hidden = false;
  button.addEventListener("click", () => part(root, "keys").showModal());
}
