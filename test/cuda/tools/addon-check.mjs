// The addon with the CUDA backend's library beside it, on a machine without a driver: it loads, says in words why there is
// no device, refuses to open one with ERR_FM_NO_DEVICE, and computes on the CPU as if nothing were there.
//     node test/cuda/tools/addon-check.mjs      (scripts/test-cuda.sh)
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

const root = new URL("../../../", import.meta.url);
const pathOf = (name) => fileURLToPath(new URL(name, root));

assert(
  existsSync(pathOf("build/Release/libfishermask_cuda.so")),
  "the library is beside the addon",
);
const addon = createRequire(import.meta.url)(pathOf("build/Release/fishermask.node"));

const { devices, reason } = await addon.cudaAvailability();
assert.deepEqual(devices, []);
assert.match(reason, /driver|no CUDA-capable device/);
// The loader's words would mean that the library was not even opened.
assert.doesNotMatch(reason, /could not be loaded/);
await assert.rejects(addon.openCudaDevice(0, "f32"), (error) => {
  assert.equal(error.code, "ERR_FM_NO_DEVICE");
  assert(error.message.includes(reason), error.message);
  return true;
});

const report = execFileSync(
  process.execPath,
  [pathOf("dist/cli/main.js"), "bench", "mask", "--params", "20000", "--rounds", "1", "--json"],
  { encoding: "utf8" },
);
assert.equal(JSON.parse(report).exact, true);
console.log(`the addon works; without a device: ${reason}`);
