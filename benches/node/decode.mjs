// Prints the speed of eventsource-parser from npm on the same shapes as a Markdown table: MB/s of
// CPU time of the whole process, including garbage collection and compilation. Bytes pass through a
// TextDecoder, as in typical use.
//
//     node decode.mjs DIRECTORY-OF-SHAPES

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createParser } from "eventsource-parser";

const [dir] = process.argv.slice(2);
const shapes = JSON.parse(readFileSync(join(dir, "shapes.json"), "utf8"));
const chunkings = { whole: Infinity, event: null, "16 KiB": 16384, "1400 B": 1400, "64 B": 64 };
const budget = 150_000; // µs for each cell

function cut(stream, blocks, size) {
  const chunks = [];
  if (size === null) {
    let start = 0;
    for (const end of blocks) chunks.push(stream.subarray(start, (start = end)));
    return chunks;
  }
  for (let at = 0; at < stream.length; at += size) chunks.push(stream.subarray(at, at + size));
  return chunks;
}

function decode(chunks) {
  let events = 0;
  let length = 0;
  const parser = createParser({
    onEvent(event) {
      events += 1;
      length += event.data.length;
    },
  });
  const text = new TextDecoder();
  for (const chunk of chunks) parser.feed(text.decode(chunk, { stream: true }));
  return { events, length };
}

function cpu(run) {
  const start = process.cpuUsage();
  run();
  const { user, system } = process.cpuUsage(start);
  return user + system;
}

console.log(`| shape | ${Object.keys(chunkings).join(" | ")} |`);
console.log(`|---|${"---:|".repeat(Object.keys(chunkings).length)}`);
for (const { name, events, blocks } of shapes) {
  const stream = readFileSync(join(dir, `${name}.sse`));
  const cells = Object.values(chunkings).map((size) => {
    const chunks = cut(stream, blocks, size);
    const right = decode(chunks).events === events;
    const times = [];
    for (let spent = 0; spent < budget && times.length < 41; spent += times.at(-1)) {
      times.push(cpu(() => decode(chunks)));
    }
    // The first half is warm-up for the JIT compiler.
    const warm = times.slice(times.length >> 1).sort((a, b) => a - b);
    const speed = (stream.length / warm[warm.length >> 1]).toFixed(0);
    return right ? speed : `${speed} (wrong)`;
  });
  console.log(`| ${name} | ${cells.join(" | ")} |`);
}
