#!/usr/bin/env node
// Fuzzes the file readers for longer than the tests do:
//   node scripts/fuzz.mjs [--minutes N] [--seed S] [--target onnx|safetensors|all] [--save DIR] [--at I]
// N minutes for each of a target's readers; a fresh seed unless one is given. Prints the executions, and how to run each
// failure again; --save keeps the files that failed (default: fuzz-failures/ in the system's temporary folder). --at runs
// execution I of a seed alone. Exit code 1 when anything failed.
import { spawnSync } from "node:child_process";
import { randomInt } from "node:crypto";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const kFiles = { onnx: ["test/fuzz/onnx"], safetensors: ["test/fuzz/safetensors"], all: ["test/fuzz/"] };
// Names of single readers, as the failures' lines give them, and the tests that run them.
const kReaders = {
  "onnx-tensor": ["test/fuzz/onnx", "refused, tensors"],
  "safetensors-index": ["test/fuzz/safetensors", "the index of shards"],
};

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "5" },
    seed: { type: "string", default: `${randomInt(2 ** 31)}` },
    target: { type: "string", default: "all" },
    save: { type: "string", default: join(tmpdir(), "fuzz-failures") },
    at: { type: "string" },
  },
});
const { minutes, seed, target, save, at } = values;

const reader = kReaders[target];
const files = reader === undefined ? kFiles[target] : [reader[0]];
if (files === undefined || !(Number(minutes) > 0) || !/^\d{1,10}$/.test(seed)) {
  const targets = [...Object.keys(kFiles), ...Object.keys(kReaders)].join("|");
  console.error(`Expected --minutes above 0, --seed in digits and --target ${targets}`);
  process.exit(2);
}

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const pattern = reader === undefined ? "read or refused" : reader[1];
const vitest = join(root, "node_modules", "vitest", "vitest.mjs");
const { status } = spawnSync(process.execPath, [vitest, "run", ...files, "-t", pattern], {
  cwd: root,
  stdio: "inherit",
  env: {
    ...process.env,
    FISHERMASK_FUZZ_MINUTES: minutes,
    FISHERMASK_FUZZ_SEED: seed,
    FISHERMASK_FUZZ_SAVE: save,
    ...(at === undefined ? {} : { FISHERMASK_FUZZ_AT: at }),
  },
});
process.exit(status ?? 1);
