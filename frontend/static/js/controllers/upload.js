// Drop a file anywhere on the form, and see how far the upload is.
export default class {
  #form;
  #listening = new AbortController();

  constructor(form) {
    this.#form = form;
    const { signal } = this.#listening;
    form.addEventListener(
      "dragover",
      (event) => {
        event.preventDefault();
        form.classList.add("drop--over");
      },
      { signal },
    );
    form.addEventListener("dragleave", () => form.classList.remove("drop--over"), { signal });
    form.addEventListener("drop", this.#drop, { signal });
    form.addEventListener("submit", this.#send, { signal });
  }

  disconnect() {
    this.#listening.abort();
  }

  #drop = (event) => {
    event.preventDefault();
    this.#form.classList.remove("drop--over");
    if (event.dataTransfer.files.length) this.#form.elements.file.files = event.dataTransfer.files;
  };

  #send = (event) => {
    event.preventDefault();
    const request = new XMLHttpRequest();
    const selectors = ["[data-part=bar]", "[data-part=status]", "button"];
    const [bar, status, button] = selectors.map((one) => this.#form.querySelector(one));
    const fail = (message) => {
      status.textContent = message;
      status.className = "notice notice--error";
      button.disabled = false;
      bar.hidden = true;
    };
    status.className = "muted";
    button.disabled = true;
    bar.hidden = false;
    request.upload.onprogress = ({ loaded, total }) => {
      bar.value = loaded / total;
      status.textContent =
        loaded < total
          ? `Uploading, ${Math.round((100 * loaded) / total)} %`
          : "Uploaded; starting the import";
    };
    request.onerror = () => fail("The connection broke. Nothing was imported. Try again.");
    request.onload = () => {
      if (request.status < 400) {
        location.href = request.responseURL;
        return;
      }
      const answer = new DOMParser()
        .parseFromString(request.responseText, "text/html")
        .querySelector("[role=alert]");
      fail(answer?.textContent ?? "That did not work. Try again.");
    };
    request.open("POST", this.#form.action);
    request.send(new FormData(this.#form));
  };
}
