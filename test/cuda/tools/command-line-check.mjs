// The command line on a CUDA device against the CPU: what FISHERMASK_CUDA_LIBRARY names, the emulated library where there is
// no GPU. Evaluates, trains, sums Fishers and unlearns on both, and asks for what cannot be had.
//     FISHERMASK_CUDA_LIBRARY=… node test/cuda/tools/command-line-check.mjs      (scripts/test-cuda.sh)
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  copyFileSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gunzipSync, gzipSync } from "node:zlib";

const pathOf = (name) => fileURLToPath(new URL(`../../../${name}`, import.meta.url));
const { loadFisher, loadMasks, openModel } = await import(pathOf("dist/index.js"));
assert(process.env.FISHERMASK_CUDA_LIBRARY, "FISHERMASK_CUDA_LIBRARY names the library");

const folder = mkdtempSync(join(tmpdir(), "fishermask-cuda-"));
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
const file = (name) => join(folder, name);
// The first images of each split, as an emulated device takes its time.
function shorten(name, header, each, count) {
  const whole = gunzipSync(readFileSync(pathOf(`examples/data/fashion-mnist/${name}`)));
  const part = Buffer.from(whole.subarray(0, header + each * count));
  part.writeUInt32BE(count, 4);
  writeFileSync(file(name), gzipSync(part));
}
for (const [split, count] of [
  ["train", 80],
  ["t10k", 20],
]) {
  shorten(`${split}-images-idx3-ubyte.gz`, 16, 28 * 28, count);
  shorten(`${split}-labels-idx1-ubyte.gz`, 8, 1, count);
}
copyFileSync(pathOf("examples/data/fashion-mnist/classes.txt"), file("classes.txt"));
const data = ["--arch", "lenet", "--data", `idx:${folder}`];

function cli(args, environment = {}) {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [pathOf("dist/cli/main.js"), ...args],
    { encoding: "utf8", env: { ...process.env, ...environment } },
  );
  return { status, stdout, stderr };
}
function result(args) {
  const { status, stdout, stderr } = cli([...args, "--json"]);
  assert.equal(status, 0, `${args.join(" ")}: ${stderr}`);
  return { ...JSON.parse(stdout), stderr };
}
function refused(code, words, args, environment) {
  const { status, stdout, stderr } = cli(args, environment);
  assert.equal(status, code, `${args.join(" ")}: ${stderr}`);
  assert.equal(stdout, "");
  for (const word of words) assert(stderr.includes(word), `${word} in: ${stderr}`);
}
const close = (a, b, tolerance, what) =>
  assert(Math.abs(a - b) <= tolerance * Math.max(Math.abs(a), Math.abs(b)), `${what}: ${a}, ${b}`);

/** ‖a − b‖ / ‖b‖, the worst of all tensors. */
function worstDistance(a, b) {
  assert.deepEqual([...a.keys()], [...b.keys()]);
  return Math.max(
    ...[...b].map(([name, values]) => {
      const other = a.get(name);
      let away = 0;
      let size = 0;
      for (let i = 0; i < values.length; i++) {
        away += (other[i] - values[i]) ** 2;
        size += values[i] ** 2;
      }
      return Math.sqrt(away / (size || 1));
    }),
  );
}

// auto takes the device that is there, and says so.
const found = result(["doctor"]);
assert(
  Array.isArray(found.cuda) && found.cuda[0].startsWith("cuda:0: "),
  JSON.stringify(found.cuda),
);

const model = file("cpu.safetensors");
const train = ["train", ...data, "--epochs", "2", "--batch", "16", "--learning-rate", "0.02"];
result([...train, "--device", "cpu", "--out", model]);
const trained = result([...train, "--device", "cuda:0", "--out", file("cuda.safetensors")]);
assert(trained.stderr.includes("using cuda:0"), trained.stderr);
const weights = async (name) =>
  (await openModel(name, { arch: "lenet", inputShape: [28, 28, 1], classes: 10 })).weights;
const apart = worstDistance(await weights(file("cuda.safetensors")), await weights(model));
assert(apart < 1e-3, `trained weights: ${apart}`);

const on = (device) => [...data, "--model", model, "--device", device];
const [cpu, cuda] = ["cpu", "auto"].map((device) => result(["evaluate", ...on(device)]));
assert.equal(cpu.device, "cpu");
assert.equal(cuda.device, "cuda:0");
assert(cuda.stderr.includes("device auto: using cuda:0"), cuda.stderr);
assert.equal(cuda.correct, cpu.correct);
close(cuda.meanLoss, cpu.meanLoss, 1e-5, "loss");

const fisher = async (device) => {
  const out = file(`fisher-${device}.safetensors`);
  assert.equal(result(["fisher", ...on(device), "--gradient-sums", "--out", out]).device, device);
  return loadFisher(out);
};
const stores = [await fisher("cuda:0"), await fisher("cpu")];
const squares = worstDistance(...stores.map((store) => store.squares));
assert(squares < 1e-5, `squares: ${squares}`);
const sums = worstDistance(...stores.map((store) => store.gradients));
assert(sums < 1e-4, `gradients: ${sums}`);

// The whole job with a fine-tune: almost the same masks, and what is masked is 0 at the end.
async function unlearned(device) {
  const out = file(`run-${device}`);
  const rule = [
    "--forget",
    "class:1",
    "--preset",
    "liu2023",
    "--unit",
    "weight",
    "--ratio",
    "0.1",
    "--hold",
    "--fine-tune",
    "1",
  ];
  const metrics = result(["unlearn", ...on(device), ...rule, "--out", out]);
  assert.equal(metrics.device.used, device);
  const { masks } = await loadMasks(join(out, "mask.safetensors"));
  const after = await weights(join(out, "model.safetensors"));
  const masked = new Set();
  for (const [name, { bits, units, elementsPerUnit }] of masks) {
    assert.equal(elementsPerUnit, 1);
    for (let i = 0; i < units; i++) {
      if ((bits[i >> 3] >> (i & 7)) & 1) continue;
      masked.add(`${name}[${i}]`);
      assert.equal(after.get(name)[i], 0, `${name}[${i}] is masked`);
    }
  }
  return { device: metrics.device, masked };
}
const runs = [await unlearned("cuda:0"), await unlearned("cpu")];
assert.equal(runs[0].device.precision, "f32");
assert.equal(runs[1].device.precision, undefined);
const [ours, theirs] = runs.map(({ masked }) => masked);
const both = [...ours].filter((weight) => theirs.has(weight)).length;
const jaccard = both / (ours.size + theirs.size - both);
assert(ours.size > 1000 && jaccard >= 0.999, `Jaccard index of the masks: ${jaccard}`);

// What cannot be had is refused in words, and nothing is written.
refused(6, ["cuda:999", "cuda:0"], ["evaluate", ...on("cuda:999")]);
refused(2, ["mask", "CPU"], ["mask", ...on("cuda:0"), "--ratio", "0.1", "--fisher-forget", model]);
if (found.cuda[0].includes("emulated")) {
  const out = file("none.safetensors");
  const fisherOn = ["fisher", ...on("cuda:0"), "--out", out];
  refused(5, ["bytes left", "OUT_OF_MEMORY"], fisherOn, {
    FISHERMASK_EMULATED_MEMORY: "600000",
  });
  assert(!existsSync(out));
  // A device that the library has no code for is not taken, and auto goes on without it.
  const old = { FISHERMASK_EMULATED_CAPABILITY: "75" };
  refused(6, ["compute capability 7.5"], ["evaluate", ...on("cuda:0")], old);
  const automatic = cli(["evaluate", ...on("auto"), "--json"], old);
  assert.equal(JSON.parse(automatic.stdout).device, "cpu", automatic.stderr);
  assert(automatic.stderr.includes("using the CPU (cuda:0"), automatic.stderr);
}

// A library that ends the process that loads it ends a child alone.
const bad = file("bad.so");
const source = "__attribute__((constructor)) static void end(void) { __builtin_trap(); }";
const compiled = spawnSync("cc", ["-shared", "-fPIC", "-x", "c", "-o", bad, "-"], {
  input: source,
});
assert.equal(compiled.status, 0, String(compiled.stderr));
const broken = cli(["doctor"], { FISHERMASK_CUDA_LIBRARY: bad });
assert.equal(broken.status, 0, broken.stderr);
assert.match(
  broken.stdout,
  /no device: looking for CUDA devices in a child process ended with SIG/,
);
refused(6, ["ended with SIG"], ["evaluate", ...on("cuda:0")], { FISHERMASK_CUDA_LIBRARY: bad });

console.log(
  `CPU and ${found.cuda[0]}: trained weights differ by ${apart.toExponential(1)}, squares by ` +
    `${squares.toExponential(1)}, gradient sums by ${sums.toExponential(1)}; Jaccard index of the masks ${jaccard}`,
);
