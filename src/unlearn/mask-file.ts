import { SafetensorsFile, writeSafetensors } from "../io/safetensors.js";
import { FishermaskError } from "../native/errors.js";
import { countMasked, type KeepMask, UNITS, type Unit, unitCount } from "../native/masking.js";
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

type Counts = Pick<KeepMask, "units" | "elementsPerUnit">;

/** Units of a shape written as "16,3,3,3"; null where it is no shape that has such units. */
function countsOf(text: string | undefined, unit: Unit): Counts | null {
  if (text === undefined || !/^[1-9]\d*(,[1-9]\d*)*$/.test(text)) return null;
  const shape = text.split(",").map(Number);
  if (!Number.isSafeInteger(shape.reduce((product, size) => product * size, 1))) return null;
  try {
    return unitCount(shape, unit);
  } catch {
    return null;
  }
}

/** As many bytes as the units need, and zeros for the padding. */
function fits(bits: Uint8Array, units: number): boolean {
  const padding = units % 8 === 0 ? 0 : (bits.at(-1) ?? 0) >> (units % 8);
  return bits.length === Math.ceil(units / 8) && padding === 0;
}

/**
 * @returns the masks, their unit, and the digest of the weights that they were made for
 * @throws {@link FishermaskError} `ERR_FM_BAD_FILE` naming file and tensor; `ERR_FM_IO`
 */
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
  const masks = new Map<string, KeepMask>();
  for (const [name, { dtype }] of file.tensors) {
    const counts = countsOf(file.metadata.get(`shape/${name}`), unit);
    const bits = await file.readBytes(name);
    if (counts === null || dtype !== "U8" || !fits(bits, counts.units)) {
      throw new FishermaskError(
        "ERR_FM_BAD_FILE",
        `Expected one bit per unit for tensor "${name}" of ${path}`,
      );
    }
    masks.set(name, { ...counts, bits });
  }
  const masked = [...masks.values()].reduce((sum, mask) => sum + countMasked(mask), 0);
  if (file.metadata.get("k") !== String(masked)) {
    throw new FishermaskError(
      "ERR_FM_BAD_FILE",
      `Expected ${masked}, the number of masked units, for metadata "k" of ${path} but received ${file.metadata.get("k") ?? "none"}`,
    );
  }
  return { masks, unit, modelDigest: file.metadata.get("modelDigest") ?? "" };
}
