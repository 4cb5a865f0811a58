// Puts the page together: names files by their content, so that browsers may keep them for ever.

import { createHash } from "node:crypto";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { bytes } from "@example/format";

const source = new URL("../src/", import.meta.url);
const target = new URL("../dist/", import.meta.url);

/** Replaces each import of a package by its text: enough for packages without imports. */
export async function bundle(text, readPackage) {
  let head = "";
  const body = await replaceAsync(text, /^import \{.*\} from "([^"]+)";\n/gm, async (_, name) => {
    head += (await readPackage(name)).replace(/^export /gm, "");
    return "";
  });
  return `${head}\n${body}`;
}

async function replaceAsync(text, pattern, replacement) {
  const parts = await Promise.all(
    [...text.matchAll(pattern)].map((match) => replacement(...match)),
  );
  return text.replace(pattern, () => parts.shift());
}

/** Names a file by its content: `main.js` becomes `main.1f2e3d4c.js`. */
export function hashed(name, content) {
  const digest = createHash("sha256").update(content).digest("hex").slice(0, 8);
  return name.replace(/(\.[a-z]+)$/, `.${digest}$1`);
}

async function build() {
  const { resolve } = createRequire(import.meta.url);
  const readPackage = (name) => readFile(resolve(name), "utf8");
  await rm(target, { recursive: true, force: true });
  await mkdir(target, { recursive: true });
  let page = await readFile(new URL("index.html", source), "utf8");
  let size = 0;
  for (const name of ["main.js", "style.css"]) {
    let text = await readFile(new URL(name, source), "utf8");
    if (name.endsWith(".js")) text = await bundle(text, readPackage);
    text = text.replaceAll("%API_URL%", process.env.API_URL ?? "/api");
    const file = hashed(name, text);
    await writeFile(new URL(file, target), text);
    page = page.replaceAll(`/${name}`, `/${file}`);
    size += Buffer.byteLength(text);
  }
  await writeFile(new URL("index.html", target), page);
  console.log(`built ${bytes(size + Buffer.byteLength(page))}`);
}

if (process.argv[1] === new URL(import.meta.url).pathname) await build();
