// The dialog behind "?": every key, and a button to change it.
import {
  assignKey,
  explainRefusal,
  formatKey,
  hasDefaultKeys,
  keyOf,
  nameKey,
  resetKeys,
} from "./key-bindings.js";
import { part } from "./page-parts.js";

export default class KeysDialog {
  #dialog;
  #selected = null;
  #captured = false;

  constructor(root) {
    this.#dialog = part(root, "keys");
    const button = part(root, "show-keys");
    button.hidden = false;
    button.addEventListener("click", () => this.open());
    this.#dialog.addEventListener("click", ({ target }) => this.#click(target));
    this.#dialog.addEventListener("keydown", (event) => this.#key(event));
    // Space presses a button on keyup: a key just assigned must not.
    this.#dialog.addEventListener("keyup", (event) => {
      if (this.#captured) event.preventDefault();
      this.#captured = false;
    });
    this.#dialog.addEventListener("close", () => this.#select(null));
    addEventListener("storage", this.#paint);
    this.#paint();
  }

  disconnect() {
    removeEventListener("storage", this.#paint);
  }

  open() {
    this.#say("To change a key, press its button.");
    this.#dialog.showModal();
    // On the first button, Space and the next key would change a key by accident.
    part(this.#dialog, "keys-title").focus();
  }

  #click(target) {
    const button = target.closest("[data-act]");
    if (button) this.#select(button === this.#selected ? null : button);
    else if (target.closest('[data-part="usual-keys"]')) this.#reset();
  }

  #select(button) {
    this.#selected?.classList.remove("review-keys__key--asking");
    this.#selected = button;
    if (!button) return;
    button.classList.add("review-keys__key--asking");
    this.#say(`Press the new key for “${words(button)}”, or Esc to keep it.`);
  }

  #key(event) {
    if (
      !this.#selected ||
      event.key === "Tab" ||
      ["Shift", "Control", "Alt", "Meta"].includes(event.key)
    )
      return;
    event.preventDefault();
    this.#captured = true;
    if (event.repeat) return;
    if (event.key === "Escape") this.#cancel();
    else this.#assign(event);
  }

  #cancel() {
    this.#say(`“${words(this.#selected)}” stays as it is.`);
    this.#select(null);
  }

  #assign(event) {
    const problem = explainRefusal(event);
    if (problem) return this.#say(problem);
    const button = this.#selected;
    const other = assignKey(button.dataset.act, nameKey(event));
    this.#select(null);
    this.#paint();
    const changed = `“${words(button)}” is ${formatKey(keyOf(button.dataset.act))} now.`;
    if (!other) return this.#say(changed);
    const otherButton = this.#dialog.querySelector(`[data-act="${other}"]`);
    const swapped = `It was for “${words(otherButton)}”, which now has ${formatKey(keyOf(other))}.`;
    return this.#say(`${changed} ${swapped}`);
  }

  #reset() {
    resetKeys();
    this.#select(null);
    this.#paint();
    this.#say("The usual keys are back.");
  }

  #paint = () => {
    for (const kbd of document.querySelectorAll("[data-key]"))
      kbd.textContent = formatKey(keyOf(kbd.dataset.key));
    for (const button of this.#dialog.querySelectorAll("[data-act]")) {
      button.setAttribute(
        "aria-label",
        `${formatKey(keyOf(button.dataset.act))}: change the key for “${words(button)}”`,
      );
    }
    part(this.#dialog, "usual-keys").hidden = hasDefaultKeys();
  };

  #say(sentence) {
    part(this.#dialog, "keys-say").textContent = sentence;
  }
}

const words = (button) => button.dataset.words;
