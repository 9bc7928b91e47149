// Attaches controllers: data-controller="name" gets an instance of controllers/name.js, now and whenever such an element appears.
const attached = new WeakMap();
const version = new URL(import.meta.url).search;

async function attach(element) {
  if (attached.has(element)) return;
  attached.set(element, null);
  const { default: Controller } = await import(`./controllers/${element.dataset.controller}.js${version}`);
  if (element.isConnected) attached.set(element, new Controller(element));
}

function detach(element) {
  attached.get(element)?.disconnect?.();
  attached.delete(element);
}

function each(node, act) {
  if (!(node instanceof Element)) return;
  if (node.matches("[data-controller]")) act(node);
  node.querySelectorAll("[data-controller]").forEach(act);
}

each(document.documentElement, attach);
new MutationObserver((changes) => {
  for (const { addedNodes, removedNodes } of changes) {
    removedNodes.forEach((node) => each(node, (element) => { if (!element.isConnected) detach(element); }));
    addedNodes.forEach((node) => each(node, attach));
  }
}).observe(document.documentElement, { childList: true, subtree: true });
