import assert from "node:assert/strict";
import test from "node:test";
import { bytes, duration } from "@example/format";
import { bundle, hashed } from "./build.mjs";

test("sizes have three digits at most", () => {
  assert.deepEqual([0, 999, 1000, 1234567].map(bytes), ["0 B", "999 B", "1 kB", "1.23 MB"]);
});

test("durations are in the unit that fits", () => {
  assert.deepEqual([12, 1500, 125000].map(duration), ["12 ms", "1.5 s", "2 min 5 s"]);
});

test("an import becomes the package's text", async () => {
  const text = 'import { a } from "p";\nconsole.log(a);\n';
  const bundled = await bundle(text, async (name) => `export const a = "${name}";\n`);
  assert.equal(bundled, 'const a = "p";\n\nconsole.log(a);\n');
});

test("a file's name follows its content", () => {
  assert.match(hashed("main.js", "x"), /^main\.[0-9a-f]{8}\.js$/);
  assert.notEqual(hashed("main.js", "x"), hashed("main.js", "y"));
});
