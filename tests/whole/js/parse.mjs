// Reads an AsyncAPI document as the tools of that standard do, and prints what they find wrong with it.
import { readFile } from "node:fs/promises";
import { Parser } from "@asyncapi/parser";

const { document, diagnostics } = await new Parser().parse(await readFile(process.argv[2], "utf8"));
const bad = diagnostics.filter((each) => each.severity === 0);
console.log(
  JSON.stringify({
    bad: bad.map((each) => `${each.path.join(".")}: ${each.message}`).slice(0, 20),
    warnings: diagnostics.filter((each) => each.severity === 1).map((each) => each.message).slice(0, 20),
    channels: document ? document.channels().all().length : 0,
    messages: document ? document.messages().all().length : 0,
  }),
);
