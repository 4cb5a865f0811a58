import { bytes, duration } from "@example/format";

const API_URL = "%API_URL%";

/** Makes a table's rows of a list of images. */
export function rows(images) {
  return images.map((image) => [image.name, bytes(image.size), duration(image.built_in_ms)]);
}

async function show(table) {
  const answer = await fetch(`${API_URL}/images`);
  for (const cells of rows(await answer.json())) {
    const row = table.insertRow();
    for (const cell of cells) row.insertCell().textContent = cell;
  }
}

if (globalThis.document) show(document.getElementById("images"));
