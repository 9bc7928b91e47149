// What grid and focus view both show: progress, saving state, a decision in words, the keys.

const number = new Intl.NumberFormat("en-US");

export const part = (root, name) => root.querySelector(`[data-part="${name}"]`);

export function paintProgress(root, progress) {
  for (const field of root.querySelectorAll("[data-count]"))
    field.textContent = number.format(progress[field.dataset.count]);
  part(root, "bar").value = progress.decided;
  part(root, "advice").textContent = progress.sentence;
  part(root, "next-step").classList.toggle("button--primary", progress.stop);
}

export function decisionWords(decision, user) {
  if (!decision) return "";
  const other =
    decision.by_id !== null && decision.by_id !== undefined && String(decision.by_id) !== user;
  return other ? `${decision.words} · ${decision.by ?? "somebody"}` : decision.words;
}

const WORDS = { remove: "Remove", keep: "Keep", unsure: "Unsure" };

/** The decision that an act will have made, shown before the server confirms it. */
export function expected(root, action, label) {
  const name = part(root, "label").options[Number(label) + 1]?.text;
  return { action, label, words: WORDS[action] ?? `Now: ${name}`, by_id: null };
}

function kept(count) {
  const what = count
    ? `${number.format(count)} ${count === 1 ? "decision is" : "decisions are"}`
    : "What you decide is";
  return `${what} kept in this browser and`;
}

/** Show how the store is doing, and what it had to refuse. */
export function showStatus(root, store) {
  const status = part(root, "status");
  store.addEventListener("state", ({ detail: { state, answered, count } }) => {
    const words = {
      saved: "All saved",
      saving: "Saving…",
      offline: answered
        ? `The server has a problem. ${kept(count)} tried again.`
        : `Offline. ${kept(count)} sent when the connection is back.`,
      "signed-out": `You are signed out. ${kept(count)} sent when you are back. `,
    };
    status.dataset.state = state;
    if (state === "saved" && status.dataset.announced) return;
    // That all goes well is to be seen, but not to be read aloud after every key.
    say(status, words[state], state === "saved" || state === "saving" ? "off" : "polite");
    status.dataset.announced = "";
    if (state === "signed-out") status.append(signIn());
  });
  store.addEventListener("refused", ({ detail }) => {
    announce(root, detail.outcome);
    status.dataset.announced = "refused";
  });
}

/** Say something in the status line that stays until the next act. */
export function announce(root, sentence) {
  const status = part(root, "status");
  say(status, sentence, "polite");
  status.dataset.announced = "yes";
}

function say(status, sentence, live) {
  status.setAttribute("aria-live", live);
  status.textContent = sentence;
}

function signIn() {
  const link = document.createElement("a");
  link.href = `/login?next=${encodeURIComponent(location.pathname + location.search)}`;
  link.target = "_blank";
  link.textContent = "Sign in (opens a new tab)";
  return link;
}
