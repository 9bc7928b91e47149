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
  return { action, label, words: WORDS[action] ?? `Now: ${name}`, by_id: null };
}

const QUICK = 400; // milliseconds; what is saved sooner needs no word about it

function kept(count) {
  const what = count ? `${number.format(count)} ${count === 1 ? "decision is" : "decisions are"}` : "What you decide is";
  return `${what} kept in this browser and sent when`;
}

/** Show how the store is doing, and what it had to refuse. */
export function showStatus(root, store) {
  const status = part(root, "status");
  let timer;
  const show = ({ state, count }) => {
    const words = {
      saved: "All saved",
      saving: "Saving…",
      offline: `Offline. ${kept(count)} the connection is back.`,
      "signed-out": `You are signed out. ${kept(count)} you are back. `,
    };
    status.dataset.state = state;
    if (status.dataset.announced !== "yes" || state !== "saved") say(status, words[state]);
    status.dataset.announced = "";
    if (state === "signed-out") status.append(signIn());
  };
  store.addEventListener("state", ({ detail }) => {
    clearTimeout(timer);
    if (detail.state === "saving") timer = setTimeout(show, QUICK, detail);
    else show(detail);
  });
  store.addEventListener("refused", ({ detail }) => announce(root, detail.outcome));
}

/** Say something in the status line that stays until the next act. */
export function announce(root, sentence) {
  const status = part(root, "status");
  say(status, sentence);
  status.dataset.announced = "yes";
}

// The same words again would be read aloud again.
function say(status, sentence) { if (status.textContent !== sentence) status.textContent = sentence; }

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

/** Enter on a label in the list gives it. */
export function enterGives(root, give) {
  part(root, "label").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.target.value === "") return;
    event.preventDefault();
    give(event.target.value);
  });
}
