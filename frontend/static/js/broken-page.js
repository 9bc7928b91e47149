// Says when a script or style sheet of this page did not load. No module: it must run before them.
{
  const show = () => {
    const main = document.querySelector("main");
    if (!main) return addEventListener("DOMContentLoaded", show, { once: true });
    if (document.querySelector("[data-part=broken-page]")) return undefined;
    const notice = Object.assign(document.createElement("div"), {
      className: "notice notice--error notice--page",
    });
    notice.dataset.part = "broken-page";
    notice.setAttribute("role", "alert");
    const link = Object.assign(document.createElement("a"), {
      href: location.href,
      textContent: "reload it",
    });
    link.addEventListener("click", (event) => {
      event.preventDefault(); // an address with # would stay on this page
      location.reload();
    });
    const words = document.createElement("p");
    words.append("Part of this page did not load; ", link, ".");
    notice.append(words);
    main.prepend(notice);
    return undefined;
  };
  addEventListener(
    "error",
    ({ target }) => {
      if (target instanceof HTMLScriptElement || target instanceof HTMLLinkElement) show();
    },
    true, // such errors do not bubble
  );
  addEventListener("winnow:broken", show);
}
