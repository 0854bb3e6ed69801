import { SafetensorsFile, writeSafetensors } from "../io/safetensors.js";
import { FishermaskError } from "../native/errors.js";
import { UNITS, type Unit, unitCount } from "../native/masking.js";
import type { MaskSet } from "./mask.js";

const FORMAT = "fishermask.keep-mask.1";

/** What a keep-mask was made of. */
export interface MaskMeta {
  readonly unit: Unit;
  readonly scope: string;
  readonly criterion: string;
  /** Units masked. */
  readonly k: number;
  readonly modelDigest: string;
  readonly shapes: ReadonlyMap<string, readonly number[]>;
}

/** One U8 tensor of bits per candidate tensor: 1 = kept, 0 = masked, one bit per unit. */
export async function saveMasks(masks: MaskSet, meta: MaskMeta, path: string): Promise<void> {
  const tensors = [...masks].map(([name, { bits }]) => ({
    name,
    dtype: "U8" as const,
    shape: [bits.length],
    data: bits,
  }));
  const shapes = Object.fromEntries(
    [...masks.keys()].map((name) => [`shape/${name}`, (meta.shapes.get(name) ?? []).join(",")]),
  );
  await writeSafetensors(path, tensors, {
    format: FORMAT,
    unit: meta.unit,
    scope: meta.scope,
    criterion: meta.criterion,
    k: String(meta.k),
    modelDigest: meta.modelDigest,
    ...shapes,
  });
}

/** @throws {@link FishermaskError} `ERR_FM_BAD_FILE` naming file and tensor; `ERR_FM_IO` */
export async function loadMasks(
  path: string,
): Promise<{ masks: MaskSet; unit: Unit; modelDigest: string }> {
  await using file = await SafetensorsFile.open(path);
  const unit = UNITS.find((name) => name === file.metadata.get("unit"));
  if (file.metadata.get("format") !== FORMAT || unit === undefined) {
    throw new FishermaskError(
      "ERR_FM_BAD_FILE",
      `Expected a keep-mask of format ${FORMAT} for ${path}`,
    );
  }
  const masks = new Map();
  for (const name of file.tensors.keys()) {
    const shape = (file.metadata.get(`shape/${name}`) ?? "").split(",").map(Number);
    const bits = await file.readBytes(name);
    const counts = shape.every((size) => Number.isSafeInteger(size) && size > 0)
      ? unitCount(shape, unit)
      : null;
    if (counts === null || Math.ceil(counts.units / 8) !== bits.length) {
      throw new FishermaskError(
        "ERR_FM_BAD_FILE",
        `Expected one bit per unit for tensor "${name}" of ${path}`,
      );
    }
    masks.set(name, { ...counts, bits });
  }
  return { masks, unit, modelDigest: file.metadata.get("modelDigest") ?? "" };
}
