#!/usr/bin/env node
// graphile-worker as a peer: see ../README.md for the commands.
import { once } from "node:events";
import { createRequire } from "node:module";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";

// As in the project's own performance test: no message is made up for each finished job. Read when the library loads.
process.env.NO_LOG_SUCCESS = "1";
const { Logger, makeWorkerUtils, run } = await import("graphile-worker");
const { default: pg } = await import("pg");

const TASK = "noop";
const STEADY_TASKS = 16;
const CONNECTIONS = 25;
const logger = new Logger((scope) => (level, message) => {
  if (level === "error" || level === "warning") console.error(`${scope.label ?? "core"}: ${message}`);
});
const worker = {
  logger,
  concurrentJobs: 24,
  maxPoolSize: CONNECTIONS,
  localQueue: { size: 500 },
  completeJobBatchDelay: 0,
  failJobBatchDelay: 0,
};

const answer = (value) => console.log(JSON.stringify(value));

/** A JSON document of `bytes` bytes, where that many fit the quotes and the name. */
const payloadOf = (bytes) => ({ p: "x".repeat(Math.max(0, bytes - 8)) });

/** A pool with `size` connections open, which stay open. */
async function connect(url, size) {
  const pool = new pg.Pool({ connectionString: url, max: size, idleTimeoutMillis: 0 });
  const failed = (error) => console.error(error);
  pool.on("error", failed);
  pool.on("connect", (client) => client.on("error", failed));
  const clients = await Promise.all(Array.from({ length: size }, () => pool.connect()));
  for (const client of clients) client.release();
  return pool;
}

async function prepare({ url }) {
  const pool = await connect(url, 1);
  await pool.query("drop schema if exists graphile_worker cascade");
  const utils = await makeWorkerUtils({ pgPool: pool, logger });
  await utils.migrate();
  await utils.release();
  await pool.end();
  answer({});
}

async function enqueue({ url, messages, batch, producers, payload }) {
  const pool = await connect(url, producers);
  const utils = await makeWorkerUtils({ pgPool: pool, logger });
  const data = payloadOf(payload);
  let left = messages;
  const produce = async () => {
    while (left > 0) {
      const count = Math.min(batch, left);
      left -= count;
      if (count === 1) await utils.addJob(TASK, data);
      else await utils.addJobs(Array.from({ length: count }, () => ({ identifier: TASK, payload: data })));
    }
  };
  const start = performance.now();
  await Promise.all(Array.from({ length: producers }, produce));
  const seconds = (performance.now() - start) / 1000;
  await utils.release();
  await pool.end();
  answer({ messages, seconds });
}

async function left({ url }) {
  const pool = await connect(url, 1);
  const { rows } = await pool.query("select count(*)::int as left from graphile_worker.jobs");
  await pool.end();
  answer(rows[0]);
}

/** Starts the worker on its own pool; `stop` returns the jobs that it holds. */
async function startWorker(pool, handler) {
  const runner = await run({ preset: { worker }, pgPool: pool, noHandleSignals: true, taskList: { [TASK]: handler }, parsedCronItems: [] });
  runner.promise.catch((error) => {
    console.error(error);
    process.exit(1);
  });
  return { stop: () => runner.stop() };
}

async function work({ url }) {
  const pool = await connect(url, CONNECTIONS);
  const ended = once(process.stdin.resume(), "end");
  const line = once(process.stdin, "data");
  console.log("ready");
  await Promise.race([line, ended]);

  let done = 0;
  let printed = 0;
  const report = () => {
    if (done !== printed) console.log(`done ${(printed = done)}`);
  };
  const timer = setInterval(report, 20);
  const running = await startWorker(pool, () => {
    done += 1;
  });
  await ended;
  await running.stop();
  await pool.end();
  clearInterval(timer);
  report();
}

async function steady({ url, rate, seconds }) {
  const producerPool = await connect(url, STEADY_TASKS);
  const utils = await makeWorkerUtils({ pgPool: producerPool, logger });
  const workerPool = await connect(url, CONNECTIONS);
  const sentAt = [];
  const waits = [];
  const running = await startWorker(workerPool, ({ n }) => {
    waits.push(performance.now() - sentAt[n]);
  });
  await sleep(1000);

  const start = performance.now();
  const total = Math.round(rate * seconds);
  let next = 0;
  const send = async () => {
    for (let n = next++; n < total; n = next++) {
      const early = start + (n / rate) * 1000 - performance.now();
      if (early > 0) await sleep(early);
      if (performance.now() - start > seconds * 1000) break;
      sentAt[n] = performance.now();
      await utils.addJob(TASK, { n });
    }
  };
  await Promise.all(Array.from({ length: STEADY_TASKS }, send));
  const offered = Object.keys(sentAt).length;
  for (let tries = 0; waits.length < offered && tries < 300; tries += 1) await sleep(100);

  await running.stop();
  await utils.release();
  await Promise.all([producerPool.end(), workerPool.end()]);
  waits.sort((a, b) => a - b);
  const at = (part) => +(waits[Math.min(waits.length - 1, Math.floor(waits.length * part))] ?? 0).toFixed(3);
  answer({ offered, started: waits.length, p50_ms: at(0.5), p95_ms: at(0.95), p99_ms: at(0.99), max_ms: at(1) });
}

function info() {
  answer({
    name: "graphile-worker",
    version: createRequire(import.meta.url)("./package.json").dependencies["graphile-worker"],
    settings:
      `concurrentJobs ${worker.concurrentJobs}, localQueue.size ${worker.localQueue.size}, completeJobBatchDelay 0, failJobBatchDelay 0, ` +
      `maxPoolSize ${worker.maxPoolSize}, NO_LOG_SUCCESS, a logger for warnings and errors only, addJobs() for batches`,
    keeps:
      "nothing: the row is deleted. After a crash every job that was in the local queue or handled and not yet deleted is done again, " +
      "when its lock is 4 hours old and a worker looks for such, every 8 to 10 minutes",
  });
}

const number = { type: "string", default: "1" };
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    url: { type: "string" },
    messages: number,
    batch: number,
    producers: number,
    payload: number,
    rate: number,
    seconds: number,
  },
});
const options = Object.fromEntries(Object.entries(values).map(([name, value]) => [name, name === "url" ? value : Number(value)]));
const command = { info, prepare, enqueue, left, work, steady }[positionals[0]];
if (!command) throw new Error(`no such command: ${positionals[0]}`);
await command(options);
