// BullMQ on Redis: `withbullmq.mjs worker` does jobs, `withbullmq.mjs rate COUNT FLIGHT` has so many done and prints seconds.
import { createRequire } from "node:module";

const load = createRequire(process.env.BENCH_MODULES + "/");
const { Queue, QueueEvents, Worker } = load("bullmq");
const { Redis } = load("ioredis");
const connection = { host: "127.0.0.1", port: Number(process.env.BENCH_STORE.split(":")[1]), maxRetriesPerRequest: null };
const CONCURRENCY = 100;

async function check() {
  const client = new Redis(connection);
  const [, value] = await client.config("GET", "appendfsync");
  client.disconnect();
  if (value !== "always") throw new Error(`appendfsync is ${value}`);
}

async function rate(count, flight) {
  const queue = new Queue("bench", { connection });
  const events = new QueueEvents("bench", { connection });
  await events.waitUntilReady();
  await check();
  const results = new Map();
  let release = () => {};
  events.on("completed", ({ jobId, returnvalue }) => {
    results.set(jobId, returnvalue);
    release();
  });
  const numbers = new Map();
  const some = async (many) => {
    const until = results.size + many;
    for (let number = 0; number < many; number += 1) {
      while (numbers.size - results.size >= flight) await new Promise((done) => (release = done));
      const key = `job-${numbers.size}`;
      numbers.set(key, number);
      queue.add("nothing", { number }, { jobId: key }).catch((error) => {
        throw error;
      });
    }
    while (results.size < until) await new Promise((done) => (release = done));
  };
  await some(1);
  const begun = performance.now();
  await some(count);
  const seconds = (performance.now() - begun) / 1000;
  for (const [key, number] of numbers) {
    if (String(results.get(key)) !== String(number)) throw new Error(`${key} gave ${results.get(key)}`);
  }
  console.log(JSON.stringify([seconds]));
  await events.close();
  await queue.obliterate({ force: true });
  await queue.close();
}

const [what, count, flight] = process.argv.slice(2);
if (what === "worker") new Worker("bench", async (job) => job.data.number, { connection, concurrency: CONCURRENCY });
else await rate(Number(count), Number(flight));
