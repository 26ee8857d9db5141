// Builds src/prefsync/web/client.js, the one file that is served, from the modules beside it. `node build.mjs [file]`

import { readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { minify } from "terser";

const root = new URL("../", import.meta.url);
const at = (path) => fileURLToPath(new URL(path, root));

// Names that no host, no server, no storage and no other tab ever sees: they may be one letter long.
const internal = `acked foreign after alive base check closing drop dropEdit edits end hear isRefusal joined known level load lost
  news next online over ping pump receive reject renewIn renew resolve saveEdit saveState settle take took tokens view written`;

const [, version] = /^version = "(.*)"$/m.exec(await readFile(at("pyproject.toml"), "utf8"));
const result = await build({
  entryPoints: [at("src/prefsync/web/client/index.js")],
  banner: { js: `/*! prefsync ${version}, MIT licence */` },
  bundle: true,
  charset: "utf8",
  format: "esm",
  legalComments: "none",
  mangleProps: new RegExp(`^(${internal.trim().split(/\s+/).join("|")})$`),
  minify: true,
  target: "es2022",
  write: false,
});
const [{ text }] = result.outputFiles;
// It finds some 200 bytes more.
const { code } = await minify(text, { compress: { passes: 3 }, ecma: 2022, format: { comments: /^!/ }, module: true });
await writeFile(process.argv[2] ?? at("src/prefsync/web/client.js"), code);
console.log(`${code.length} bytes`);
