import { mkdir, rm } from "node:fs/promises";
import { arch, cpus, platform, totalmem } from "node:os";
import { join } from "node:path";
import { writeFileAtomic } from "../io/atomic-write.js";
import { attempt, ioError } from "../io/file-error.js";
import { type Model, saveModel } from "../model/model.js";
import { addon } from "../native/addon.js";
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

/** Makes the folder now, so that an unwritable place is known before the work. @throws `ERR_FM_IO` naming it */
export async function prepareRunDirectory(path: string): Promise<void> {
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

/** Files that not every run writes: those of an earlier run must not pass for this one's. */
async function removeStale(path: string): Promise<void> {
  for (const name of ["mask", "fisher-forget", "fisher-remain"]) {
    const file = join(path, `${name}.safetensors`);
    await attempt("remove the earlier", file, rm(file, { force: true }));
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
  await removeStale(path);
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
  await saveModel(model, weights, join(path, "model.safetensors"));
}
