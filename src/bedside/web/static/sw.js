/* Keeps all files of the page, so that it opens without a network, and sends them with the headers
   that threads need. VERSION, FILES and HEADERS stand in front of this when the page is written. */
const CACHE = `bedside-${VERSION}`;
const HOME = new URL("./", self.location).href;

self.addEventListener("install", (event) => {
  // Past the browser's own cache: a version is made of files that belong together.
  const fresh = FILES.map((file) => new Request(new URL(file, HOME), { cache: "no-cache" }));
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(fresh)));
});

self.addEventListener("activate", (event) => {
  const clean = async () => {
    for (const name of await caches.keys()) {
      if (name.startsWith("bedside-") && name !== CACHE) await caches.delete(name);
    }
    await self.clients.claim();
  };
  event.waitUntil(clean());
});

self.addEventListener("message", (event) => {
  if (event.data === "take over") self.skipWaiting();
});

self.addEventListener("fetch", (event) => {
  const { method, url } = event.request;
  const path = url.split(/[?#]/)[0];
  if (method !== "GET" || !path.startsWith(HOME)) return;
  const file = path.slice(HOME.length) || "index.html";
  if (FILES.includes(file)) event.respondWith(answer(file));
  else if (file.startsWith("models/")) event.respondWith(latest(event.request));
});

async function answer(file) {
  const cache = await caches.open(CACHE);
  const url = new URL(file, HOME);
  const found = (await cache.match(url)) ?? (await fetch(url));
  const headers = new Headers(found.headers);
  for (const [name, value] of Object.entries(HEADERS)) headers.set(name, value);
  return new Response(found.body, { status: found.status, headers });
}

/** A model that a server may renew: the one it has now, else the one it had last. */
async function latest(request) {
  const cache = await caches.open(CACHE);
  try {
    const found = await fetch(request);
    if (found.ok) await cache.put(request, found.clone());
    return found;
  } catch (error) {
    const kept = await cache.match(request);
    if (kept) return kept;
    throw error;
  }
}
