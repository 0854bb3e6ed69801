import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { getHeapStatistics } from "node:v8";
import { Worker } from "node:worker_threads";
import { FishermaskError } from "../../src/native/errors.js";
import type { Mutator } from "./mutate.js";
import { Random } from "./random.js";

/** What is fuzzed: one reader, and the files that mutations start from. */
export interface FuzzTarget {
  readonly name: string;
  readonly seeds: readonly Uint8Array[];
  readonly mutators: readonly Mutator[];
  /** Reads the bytes in every way that there is. `index` counts the executions. */
  execute(data: Uint8Array, index: number): Promise<void> | void;
}

export interface FuzzResult {
  readonly executions: number;
  /** Executions that ended without an error: mutants that are still valid files. */
  readonly accepted: number;
  /** One line each, with how to run it again. */
  readonly failures: readonly string[];
}

// The environment of a longer run, as scripts/fuzz.mjs sets it.
const kMinutes = Number(process.env["FISHERMASK_FUZZ_MINUTES"] ?? 0);
const kSeed = Number(process.env["FISHERMASK_FUZZ_SEED"] ?? 1);
const kOnly = process.env["FISHERMASK_FUZZ_AT"];
const kSaveFolder = process.env["FISHERMASK_FUZZ_SAVE"];

const kShortMs = 10_000;
const kLimitMs = 1000;
const kSlackBytes = 64 * 1024 * 1024;
const kHangMs = 60_000;
const kMaxFailures = 20;
// Typed as they are, these mean that a reader believed what a small file said.
const kFaults: ReadonlySet<string> = new Set(["ERR_FM_INTERNAL", "ERR_FM_OUT_OF_MEMORY"]);

/** How long a fuzz test goes on. */
export const FUZZ_MS = kMinutes > 0 ? kMinutes * 60_000 : kShortMs;

// A reader that never returns stops this thread too: another one looks whether the executions go on.
const kWatchdog = `
const { workerData } = require("node:worker_threads");
const { writeSync } = require("node:fs");
const { counter, name, seed, limit } = workerData;
const view = new Int32Array(counter);
let last = -1;
setInterval(() => {
  const now = Atomics.load(view, 0);
  if (now === last) {
    writeSync(2, "fuzz " + name + ": hangs, seed " + seed + " execution " + now + "\\n");
    process.kill(process.pid, "SIGKILL");
  }
  last = now;
}, limit);
`;

function memoryInUse(): number {
  const { used_heap_size: heap, external_memory: external } = getHeapStatistics();
  return heap + external;
}

function mutant(target: FuzzTarget, random: Random): Uint8Array {
  let data = random.pick(target.seeds);
  do {
    data = random.pick(target.mutators)(data, random, target.seeds);
  } while (random.below(3) === 0);
  return data;
}

type Outcome = "accepted" | "refused" | { readonly fault: string };

async function outcomeOf(target: FuzzTarget, data: Uint8Array, index: number): Promise<Outcome> {
  const memory = memoryInUse();
  const start = performance.now();
  const cpu = process.cpuUsage();
  let outcome: Outcome = "accepted";
  try {
    await target.execute(data, index);
  } catch (error) {
    if (!(error instanceof FishermaskError) || kFaults.has(error.code)) {
      const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
      return { fault: `threw ${text}` };
    }
    outcome = "refused";
  }
  const took = performance.now() - start;
  const { user, system } = process.cpuUsage(cpu);
  // Both clocks: a busy machine makes either of them late alone.
  if (took > kLimitMs && (user + system) / 1000 > kLimitMs) {
    return { fault: `took ${took.toFixed()} ms` };
  }
  const grown = memoryInUse() - memory;
  if (grown > 2 * data.length + kSlackBytes) {
    return { fault: `took ${grown} bytes of memory for ${data.length}` };
  }
  return outcome;
}

function save(target: FuzzTarget, index: number, data: Uint8Array): string {
  if (kSaveFolder === undefined) {
    return "";
  }
  mkdirSync(kSaveFolder, { recursive: true });
  const path = join(kSaveFolder, `${target.name}-${kSeed}-${index}.bin`);
  writeFileSync(path, data);
  return ` (saved as ${path})`;
}

/**
 * Feeds a target with mutants of its seeds for some time. It may accept a file or throw a FishermaskError; any other
 * exception, more than a second, or more memory than twice the file and 64 MiB is a failure. The same seed gives the same
 * files, whatever the machine's speed.
 */
export async function fuzz(target: FuzzTarget, milliseconds = FUZZ_MS): Promise<FuzzResult> {
  const counter = new SharedArrayBuffer(4);
  const workerData = { counter, name: target.name, seed: kSeed, limit: kHangMs };
  const watchdog = new Worker(kWatchdog, { eval: true, workerData });
  const failures: string[] = [];
  let accepted = 0;
  let index = kOnly === undefined ? 0 : Number(kOnly);
  const first = index;
  const end = performance.now() + milliseconds;
  for (; failures.length < kMaxFailures && performance.now() < end; index += 1) {
    Atomics.store(new Int32Array(counter), 0, index);
    const data = mutant(target, new Random(kSeed, index));
    const outcome = await outcomeOf(target, data, index);
    accepted += outcome === "accepted" ? 1 : 0;
    if (typeof outcome === "object") {
      const again = `node scripts/fuzz.mjs --target ${target.name} --seed ${kSeed} --at ${index}`;
      failures.push(`${again}${save(target, index, data)}: ${outcome.fault}`);
    }
    if (kOnly !== undefined) {
      index += 1;
      break;
    }
  }
  await watchdog.terminate();
  const result = { executions: index - first, accepted, failures };
  const summary = `${result.executions} executions (${accepted} accepted), ${failures.length} failures`;
  process.stderr.write(`fuzz ${target.name}, seed ${kSeed}: ${summary}\n`);
  return result;
}
