#!/usr/bin/env node
// pg-boss as a peer: see ../README.md for the commands.
import { once } from "node:events";
import { createRequire } from "node:module";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import pg from "pg";
import PgBoss from "pg-boss";

const QUEUE = "noop";
const STEADY_TASKS = 16;
const WORKERS = 2;
const CONNECTIONS = 2 * WORKERS + 2;
const workOptions = { batchSize: 10_000, pollingIntervalSeconds: 0.5 };

const answer = (value) => console.log(JSON.stringify(value));

/** A JSON document of `bytes` bytes, where that many fit the quotes and the name. */
const payloadOf = (bytes) => ({ p: "x".repeat(Math.max(0, bytes - 8)) });

/** The project's own kind of database, over `size` connections that stay open; `close` waits for the queries under way. */
async function connect(url, size) {
  const pool = new pg.Pool({ connectionString: url, max: size, idleTimeoutMillis: 0 });
  pool.on("error", (error) => console.error(error));
  const clients = await Promise.all(Array.from({ length: size }, () => pool.connect()));
  for (const client of clients) client.release();
  let running = 0;
  return {
    async executeSql(text, values) {
      running += 1;
      try {
        return await pool.query(text, values);
      } finally {
        running -= 1;
      }
    },
    async idle() {
      do await sleep(20);
      while (running > 0);
    },
    close: () => pool.end(),
  };
}

/** `own`: what differs from an instance that only enqueues and reads. */
async function start(db, own = {}) {
  const boss = new PgBoss({ db, supervise: false, schedule: false, migrate: false, ...own });
  boss.on("error", (error) => console.error(error));
  return boss.start();
}

async function prepare({ url }) {
  const db = await connect(url, 1);
  await db.executeSql("drop schema if exists pgboss cascade");
  const boss = await start(db, { migrate: true });
  await boss.createQueue(QUEUE);
  await boss.stop({ graceful: false });
  await db.close();
  answer({});
}

async function enqueue({ url, messages, batch, producers, payload }) {
  const db = await connect(url, producers);
  const boss = await start(db);
  const data = payloadOf(payload);
  let left = messages;
  const produce = async () => {
    while (left > 0) {
      const count = Math.min(batch, left);
      left -= count;
      if (count === 1) await boss.send(QUEUE, data);
      else await boss.insert(Array.from({ length: count }, () => ({ name: QUEUE, data })));
    }
  };
  const begin = performance.now();
  await Promise.all(Array.from({ length: producers }, produce));
  const seconds = (performance.now() - begin) / 1000;
  await boss.stop({ graceful: false });
  await db.close();
  answer({ messages, seconds });
}

async function left({ url }) {
  const db = await connect(url, 1);
  const boss = await start(db);
  const count = await boss.getQueueSize(QUEUE, { before: "completed" });
  await boss.stop({ graceful: false });
  await db.close();
  answer({ left: count });
}

/** Starts the workers on `db`; `stop` ends them when what they hold is recorded, `wake` makes an idle one look at once. */
async function startWorkers(db, handler) {
  const boss = await start(db, { supervise: true });
  const ids = [];
  let turn = 0;
  for (let n = 0; n < WORKERS; n += 1) {
    const id = await boss.work(QUEUE, workOptions, async (jobs) => {
      for (const job of jobs) handler(job.data);
      // A worker that is done within its polling interval waits for the rest of it, also with jobs left.
      if (jobs.length === workOptions.batchSize) boss.notifyWorker(id);
    });
    ids.push(id);
  }
  return {
    wake: () => boss.notifyWorker(ids[turn++ % WORKERS]),
    async stop() {
      await boss.offWork(QUEUE);
      await db.idle();
      await boss.stop({ graceful: false });
    },
  };
}

async function work({ url }) {
  const db = await connect(url, CONNECTIONS);
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
  const running = await startWorkers(db, () => {
    done += 1;
  });
  await ended;
  await running.stop();
  await db.close();
  clearInterval(timer);
  report();
}

async function steady({ url, rate, seconds }) {
  const producerDb = await connect(url, STEADY_TASKS);
  const producer = await start(producerDb);
  const workerDb = await connect(url, CONNECTIONS);
  const sentAt = [];
  const waits = [];
  const running = await startWorkers(workerDb, ({ n }) => {
    waits.push(performance.now() - sentAt[n]);
  });
  await sleep(1000);

  const begin = performance.now();
  const total = Math.round(rate * seconds);
  let next = 0;
  const send = async () => {
    for (let n = next++; n < total; n = next++) {
      const early = begin + (n / rate) * 1000 - performance.now();
      if (early > 0) await sleep(early);
      if (performance.now() - begin > seconds * 1000) break;
      sentAt[n] = performance.now();
      await producer.send(QUEUE, { n });
      running.wake();
    }
  };
  await Promise.all(Array.from({ length: STEADY_TASKS }, send));
  const offered = Object.keys(sentAt).length;
  for (let tries = 0; waits.length < offered && tries < 300; tries += 1) await sleep(100);

  await running.stop();
  await producer.stop({ graceful: false });
  await Promise.all([producerDb.close(), workerDb.close()]);
  waits.sort((a, b) => a - b);
  const at = (part) => +(waits[Math.min(waits.length - 1, Math.floor(waits.length * part))] ?? 0).toFixed(3);
  answer({ offered, started: waits.length, p50_ms: at(0.5), p95_ms: at(0.95), p99_ms: at(0.99), max_ms: at(1) });
}

function info() {
  answer({
    name: "pg-boss",
    version: createRequire(import.meta.url)("./package.json").dependencies["pg-boss"],
    settings:
      `${WORKERS} workers a process by work(), batchSize ${workOptions.batchSize}, pollingIntervalSeconds 0.5 (the least allowed); ` +
      "notifyWorker() after a full batch, so that no worker waits with jobs left, and in steady after each send(), which only the " +
      "process that works can do (another process's jobs wait for the poll); connections by the db option, insert() for batches, " +
      "schedule off (no cron)",
    keeps:
      "the row, as completed: archived after 12 hours, deleted 7 days later. The jobs of a batch are recorded together: after a crash " +
      "every job that was fetched and not recorded is done again, 15 minutes after the fetch (expireIn) and the next maintenance, every " +
      "2 minutes; its retryLimit of 2 counts that",
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
