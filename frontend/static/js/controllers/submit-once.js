// A form that starts or uses up something is sent once, however often its button is pressed.
export default class {
  #form;
  #sent = false;

  constructor(form) {
    this.#form = form;
    form.addEventListener("submit", this.#submit);
    addEventListener("pageshow", this.#reset); // back on this page
  }

  disconnect() {
    this.#form.removeEventListener("submit", this.#submit);
    removeEventListener("pageshow", this.#reset);
  }

  #submit = (event) => {
    if (this.#sent) event.preventDefault();
    this.#sent = true;
  };

  #reset = () => {
    this.#sent = false;
  };
}
