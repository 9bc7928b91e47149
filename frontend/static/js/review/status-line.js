// The status line: whether everything is saved, and short announcements.
import { part } from "./page-parts.js";

const number = new Intl.NumberFormat("en-US");

/** Follow the store's state, and report what the server refused. */
export function showStatus(root, store) {
  const status = part(root, "status");
  store.addEventListener("state", ({ detail: { state, answered, count } }) => {
    const words = {
      saved: "All saved",
      saving: "Saving…",
      offline: answered
        ? `The server has a problem. ${describeUnsent(count)} tried again.`
        : `Offline. ${describeUnsent(count)} sent when the connection is back.`,
      "signed-out": `You are signed out. ${describeUnsent(count)} sent when you are back. `,
    };
    status.dataset.state = state;
    if (state === "saved" && status.dataset.announced) return;
    // Screen readers need not hear after every key that all goes well.
    say(status, words[state], state === "saved" || state === "saving" ? "off" : "polite");
    status.dataset.announced = "";
    if (state === "signed-out") status.append(createSignInLink());
  });
  store.addEventListener("refused", ({ detail }) => {
    announce(root, detail.outcome);
    status.dataset.announced = "refused";
  });
}

/** Show a sentence until the next act. */
export function announce(root, sentence) {
  const status = part(root, "status");
  say(status, sentence, "polite");
  status.dataset.announced = "yes";
}

function say(status, sentence, live) {
  status.setAttribute("aria-live", live);
  status.textContent = sentence;
}

function describeUnsent(count) {
  const what = count
    ? `${number.format(count)} ${count === 1 ? "decision is" : "decisions are"}`
    : "What you decide is";
  return `${what} kept in this browser and`;
}

function createSignInLink() {
  const link = document.createElement("a");
  link.href = `/login?next=${encodeURIComponent(location.pathname + location.search)}`;
  link.target = "_blank";
  link.textContent = "Sign in (opens a new tab)";
  return link;
}
