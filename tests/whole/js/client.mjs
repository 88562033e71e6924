// A JavaScript program that works with a node; all it has is the URL from `hindbrain info --json`.
// It prints what it saw as one line of JSON; the test judges.
import { createHash } from "node:crypto";
import { jetstream } from "@nats-io/jetstream";
import { Objm } from "@nats-io/obj";
import { connect } from "@nats-io/transport-node";

const url = new URL(process.argv[2]);
const nc = await connect({
  servers: url.host,
  user: decodeURIComponent(url.username),
  pass: decodeURIComponent(url.password),
});

async function ask(verb, body, raw = JSON.stringify(body ?? {})) {
  const reply = await nc.request(`brain.cmd.execution.${verb}`, raw, { timeout: 40_000 });
  return { ...reply.json(), code: reply.headers?.get("Nats-Service-Error") ?? "" };
}

const progress = [];
(async () => {
  for await (const message of nc.subscribe("brain.progress.execution.>")) progress.push(message.json());
})();
const live = [];
(async () => {
  for await (const message of nc.subscribe("brain.out.>"))
    live.push([message.subject, Buffer.from(message.data).toString(), message.headers?.get("Brain-End") ?? ""]);
})();
await nc.flush();

const seen = {};
const times = [];
for (let n = 0; n < 5; n += 1) {
  const began = performance.now();
  seen.submitted = await ask("submit", { code: "print(1)" });
  times.push(performance.now() - began);
}
times.sort((a, b) => a - b);
seen.milliseconds = times[2];
const id = { execution_id: seen.submitted.execution_id };
seen.waited = await ask("wait", { ...id, timeout_ms: 30_000 });
seen.got = await ask("get", id);
seen.result = await ask("result", id);
seen.logs = await ask("logs", id);
seen.listed = await ask("list", { limit: 10 });
seen.cancelled = await ask("cancel", id);
seen.events = await ask("events", id);
seen.retried = await ask("retry", id);
await ask("wait", { execution_id: seen.retried.execution_id });
seen.refused = await ask("submit", { exce: 1 });
seen.broken = await ask("submit", null, "{");
seen.unknown = await ask("get", { execution_id: "exec_00000000000000000000000000" });

const large = Buffer.alloc(2 * 1024 * 1024, "hindbrain ");
const sha = createHash("sha256").update(large).digest("hex");
const store = await new Objm(jetstream(nc)).open("BRAIN_BLOBS");
await store.putBlob({ name: sha }, large);
const summed = await ask("submit", { exec: { program: "sha256sum" }, stdin: { blob: sha } });
seen.blob = [sha, (await ask("wait", { execution_id: summed.execution_id })).execution.result?.stdout];

const stored = await jetstream(nc).consumers.get("BRAIN_OUTPUT", {
  filter_subjects: [`brain.out.${id.execution_id}.*`],
});
const pieces = await stored.fetch({ max_messages: 3, expires: 5_000 });
seen.stored = [];
for await (const message of pieces) {
  seen.stored.push([message.subject, Buffer.from(message.data).toString(), message.headers?.get("Brain-End")]);
  if (seen.stored.length === 3) break;
}
seen.live = live.filter(([subject]) => subject.includes(id.execution_id));
seen.progress = progress.filter((each) => each.id === id.execution_id);
console.log(JSON.stringify(seen));
await nc.drain();
