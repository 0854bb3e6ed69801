import { mkdir, rm } from "node:fs/promises";
import { arch, cpus, platform, totalmem } from "node:os";
import { extname, join, resolve } from "node:path";
import { writeFileAtomic } from "../io/atomic-write.js";
import { attempt, ioError } from "../io/file-error.js";
import { type Model, saveModel } from "../model/model.js";
import { addon } from "../native/addon.js";
import { FishermaskError } from "../native/errors.js";
import { VERSION } from "../version.js";
import { saveFisher, weightsDigest } from "./fisher-store.js";
import { saveMasks } from "./mask-file.js";
import { makePatch, savePatch } from "./patch.js";
import type { UnlearnResult } from "./unlearn.js";

/** Where and with what a run happened. */
export function environment(): Record<string, unknown> {
  const processors = cpus();
  return {
    fishermask: VERSION,
    node: process.version,
    platform: `${platform()}-${arch()}`,
    cpu: processors[0]?.model ?? "unknown",
    cores: processors.length,
    memoryBytes: totalmem(),
    ...addon().buildInfo(),
  };
}

/**
 * Makes the folder now, so that an unwritable place is known before the work.
 *
 * @throws {@link FishermaskError} `ERR_FM_IO` naming it; `ERR_FM_ARGUMENT` where the run's model would be written over the folder
 * that `model` was read from
 */
export async function prepareRunDirectory(path: string, model?: Model): Promise<void> {
  const file = model?.file ?? null;
  if (model !== undefined && file !== null && modelName(model) === kFolder) {
    if (resolve(file) === resolve(path, kFolder)) {
      throw new FishermaskError(
        "ERR_FM_ARGUMENT",
        `Expected a run directory that does not hold the model ${file} but received ${path}`,
      );
    }
  }
  try {
    await mkdir(path, { recursive: true });
    await writeFileAtomic(join(path, "environment.json"), json(environment()));
  } catch (error) {
    throw ioError("write to the run directory", path, error);
  }
}

function json(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}

const kFolder = "model";

/** What a run calls the new network: as the old one's form wants it; a Hugging Face folder stays one. */
export function modelName({ file }: Model): string {
  const extension = file === null ? ".safetensors" : extname(file).toLowerCase();
  const isFile = extension === ".safetensors" || extension === ".onnx";
  return isFile ? `model${extension}` : kFolder;
}

/** What not every run writes: that of an earlier run must not pass for this one's. The network that was read stays. */
async function removeStale(path: string, model: Model): Promise<void> {
  const stores = ["mask", "fisher-forget", "fisher-remain"].map((name) => `${name}.safetensors`);
  // A file is replaced in one step when the new one is whole; a folder must be gone before.
  const models = ["model.safetensors", "model.onnx"].filter((name) => name !== modelName(model));
  for (const name of [...stores, ...models, kFolder]) {
    const stale = join(path, name);
    if (model.file !== null && resolve(model.file) === resolve(stale)) continue;
    await attempt("remove the earlier", stale, rm(stale, { force: true, recursive: true }));
  }
}

/**
 * Writes a run: config, metrics, mask, patch, the last round's Fishers, and the model in the form it came in. Each file is
 * whole or absent; the model comes last, so that its presence means that the rest is there.
 *
 * @throws {@link FishermaskError} `ERR_FM_IO`
 */
export async function writeRun(
  path: string,
  model: Model,
  result: UnlearnResult,
  report: string,
): Promise<void> {
  const { metrics, masks, fishers, weights } = result;
  await removeStale(path, model);
  await writeFileAtomic(join(path, "config.json"), json(metrics.config));
  await writeFileAtomic(join(path, "metrics.json"), json(metrics));
  await writeFileAtomic(join(path, "report.html"), report);
  if (masks !== null) {
    const meta = {
      unit: metrics.masked.unit,
      scope: metrics.masked.scope,
      criterion: metrics.masked.criterion,
      k: metrics.masked.units,
      modelDigest: weightsDigest(model.weights),
      shapes: new Map(model.graph.parameters.map(({ name, shape }) => [name, shape])),
    };
    await saveMasks(masks, meta, join(path, "mask.safetensors"));
  }
  if (fishers.forget !== null)
    await saveFisher(fishers.forget, join(path, "fisher-forget.safetensors"));
  if (fishers.remain !== null)
    await saveFisher(fishers.remain, join(path, "fisher-remain.safetensors"));
  await savePatch(makePatch(model.weights, weights), join(path, "patch.safetensors"));
  await saveModel(model, weights, join(path, modelName(model)));
}
