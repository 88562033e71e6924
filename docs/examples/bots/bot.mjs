// A bot in thirty lines: it posts how plans and batches begin and end.  node bot.mjs NATS_URL WEBHOOK_URL
import { connect } from "@nats-io/transport-node";

const [natsUrl, webhook] = process.argv.slice(2);
const { host, username, password } = new URL(natsUrl);
const bus = await connect({
  servers: host,
  user: decodeURIComponent(username),
  pass: decodeURIComponent(password),
  maxReconnectAttempts: -1,
});

async function post(text) {
  const headers = { "Content-Type": "application/json" };
  await fetch(webhook, { method: "POST", headers, body: JSON.stringify({ text }) });
}

const begun = new Set();
for await (const message of bus.subscribe("brain.progress.plan.*")) {
  const said = message.json();
  if (!begun.has(said.id)) {
    begun.add(said.id);
    await post(`${said.id} begins`);
  }
  if (said.final) await post(`${said.id} ${said.status}: ${said.text}`);
}
