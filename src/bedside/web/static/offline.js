/** Keeps the page for use without a network, and gives it threads where the server cannot. */

const TRIED = "bedside isolated";

/**
 * Register the service worker.
 *
 * @param {(text: string) => void} onReady Called once the page works without a network.
 * @param {(apply: () => void) => void} onUpdate Called when a newer version is waiting.
 */
export async function keepOffline(onReady, onUpdate) {
  if (!("serviceWorker" in navigator)) return;
  const registration = await navigator.serviceWorker.register("sw.js").catch(() => null);
  if (!registration) return;
  const watch = (worker) => {
    worker?.addEventListener("statechange", () => {
      if (worker.state === "installed" && navigator.serviceWorker.controller) offer(registration, onUpdate);
    });
  };
  registration.addEventListener("updatefound", () => watch(registration.installing));
  if (registration.waiting) offer(registration, onUpdate);
  await navigator.serviceWorker.ready;
  onReady();
}

/** Load the page again, once, if the service worker can send it with the headers for threads. */
export async function isolate() {
  if (globalThis.crossOriginIsolated || !("serviceWorker" in navigator) || sessionStorage.getItem(TRIED)) return false;
  sessionStorage.setItem(TRIED, "1");
  const registration = await navigator.serviceWorker.register("sw.js").catch(() => null);
  if (!registration || !(await becomesActive(registration))) return false;
  location.reload();
  return true;
}

/** Whether the worker of a registration gets to work; not if a file that it keeps cannot be had. */
function becomesActive(registration) {
  const worker = registration.installing ?? registration.waiting ?? registration.active;
  if (!worker || worker.state === "activated") return Promise.resolve(Boolean(worker));
  return new Promise((resolve) => {
    worker.addEventListener("statechange", () => {
      if (worker.state === "activated" || worker.state === "redundant") resolve(worker.state === "activated");
    });
  });
}

function offer(registration, onUpdate) {
  onUpdate(() => {
    navigator.serviceWorker.addEventListener("controllerchange", () => location.reload(), { once: true });
    registration.waiting?.postMessage("take over");
  });
}
