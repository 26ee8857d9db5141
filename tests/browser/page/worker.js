// Keeps a page and its scripts, as any host's would that is to open without a network.

const FILES = ["./", "page.js", "/preferences/client.js"];

addEventListener("install", (event) => event.waitUntil(caches.open("page").then((cache) => cache.addAll(FILES))));

addEventListener("fetch", (event) => {
  const { pathname } = new URL(event.request.url);
  const isKept = FILES.some((file) => new URL(file, location).pathname == pathname);
  if (isKept) event.respondWith(caches.match(event.request));
});
