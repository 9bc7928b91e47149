// The dialog behind "?": every key, and a button to change it. Each [data-key] of the page shows the key of that act.
import { giveKey, inWords, isUsual, keyOf, nameOf, refusal, usualKeys } from "./key-bindings.js";
import { part } from "./page-parts.js";

export default class KeysDialog {
  #dialog;
  #asking = null;
  #taken = false;

  constructor(root) {
    this.#dialog = part(root, "keys");
    const button = part(root, "show-keys");
    button.hidden = false;
    button.addEventListener("click", () => this.open());
    this.#dialog.addEventListener("click", ({ target }) => this.#click(target));
    this.#dialog.addEventListener("keydown", (event) => this.#key(event));
    // A key that was taken must not press the button as well, which Space does on its way up.
    this.#dialog.addEventListener("keyup", (event) => {
      if (this.#taken) event.preventDefault();
      this.#taken = false;
    });
    this.#dialog.addEventListener("close", () => this.#ask(null));
    addEventListener("storage", this.#paint);
    this.#paint();
  }

  disconnect() {
    removeEventListener("storage", this.#paint);
  }

  open() {
    this.#say("To change a key, press its button.");
    this.#dialog.showModal();
    // Not on the first button, where Space or Enter and any key behind it would change a key.
    part(this.#dialog, "keys-title").focus();
  }

  #click(target) {
    const button = target.closest("[data-act]");
    if (button) this.#ask(button === this.#asking ? null : button);
    else if (target.closest('[data-part="usual-keys"]')) this.#usual();
  }

  #ask(button) {
    this.#asking?.classList.remove("review-keys__key--asking");
    this.#asking = button;
    if (!button) return;
    button.classList.add("review-keys__key--asking");
    this.#say(`Press the new key for “${words(button)}”, or Esc to leave it.`);
  }

  #key(event) {
    if (
      !this.#asking ||
      event.key === "Tab" ||
      ["Shift", "Control", "Alt", "Meta"].includes(event.key)
    )
      return;
    event.preventDefault();
    this.#taken = true;
    if (event.repeat) return;
    if (event.key === "Escape") this.#leave();
    else this.#give(event);
  }

  #leave() {
    this.#say(`“${words(this.#asking)}” stays as it is.`);
    this.#ask(null);
  }

  #give(event) {
    const no = refusal(event);
    if (no) return this.#say(no);
    const button = this.#asking;
    const other = giveKey(button.dataset.act, nameOf(event));
    this.#ask(null);
    this.#paint();
    const moved = other
      ? ` It was for “${words(this.#dialog.querySelector(`[data-act="${other}"]`))}”, which now has ${inWords(keyOf(other))}.`
      : "";
    return this.#say(`“${words(button)}” is ${inWords(keyOf(button.dataset.act))} now.${moved}`);
  }

  #usual() {
    usualKeys();
    this.#ask(null);
    this.#paint();
    this.#say("The usual keys are back.");
  }

  #paint = () => {
    for (const kbd of document.querySelectorAll("[data-key]"))
      kbd.textContent = inWords(keyOf(kbd.dataset.key));
    for (const button of this.#dialog.querySelectorAll("[data-act]")) {
      button.setAttribute(
        "aria-label",
        `${inWords(keyOf(button.dataset.act))}: change the key for “${words(button)}”`,
      );
    }
    part(this.#dialog, "usual-keys").hidden = isUsual();
  };

  #say(sentence) {
    part(this.#dialog, "keys-say").textContent = sentence;
  }
}

const words = (button) => button.dataset.words;
