// Attaches controllers: an element with data-controller="name" gets an instance of
// controllers/name.js, now and whenever such an element appears.
const attached = new WeakMap();
const version = new URL(import.meta.url).search;

async function attach(element) {
  if (attached.has(element)) return;
  attached.set(element, null);
  const found = await load(element.dataset.controller);
  if (found && element.isConnected) attached.set(element, new found.default(element));
}

/** Import a controller; null, and said on the page, when the network fails. */
async function load(name) {
  try {
    return await import(`./controllers/${name}.js${version}`);
  } catch (error) {
    console.error(error);
    dispatchEvent(new Event("winnow:broken"));
    return null;
  }
}

function detach(element) {
  attached.get(element)?.disconnect?.();
  attached.delete(element);
}

function forEachController(node, act) {
  if (!(node instanceof Element)) return;
  if (node.matches("[data-controller]")) act(node);
  for (const element of node.querySelectorAll("[data-controller]")) act(element);
}

forEachController(document.documentElement, attach);
new MutationObserver((changes) => {
  for (const { addedNodes, removedNodes } of changes) {
    for (const node of removedNodes) {
      forEachController(node, (element) => {
        if (!element.isConnected) detach(element);
      });
    }
    for (const node of addedNodes) forEachController(node, attach);
  }
}).observe(document.documentElement, { childList: true, subtree: true });
