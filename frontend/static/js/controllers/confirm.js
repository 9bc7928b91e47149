// A form that cannot be undone asks the question in data-question first.
export default class {
  #form;
  #ask = (event) => {
    if (!confirm(this.#form.dataset.question)) event.preventDefault();
  };

  constructor(form) {
    this.#form = form;
    form.addEventListener("submit", this.#ask);
  }

  disconnect() {
    this.#form.removeEventListener("submit", this.#ask);
  }
}
