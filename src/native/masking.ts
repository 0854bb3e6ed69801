import {
  type NativeScoring,
  type NativeSelecting,
  type NativeSelection,
  type NativeTopK,
  type NativeTopKOnDisk,
  type NativeTopKResult,
  native,
  nativeAsync,
} from "./addon.js";
import { throwIfAborted } from "./errors.js";

export type Unit = "weight" | "kernel" | "filter";
export type Scope = "global" | "layer" | "tensor";
export const UNITS: readonly Unit[] = ["weight", "kernel", "filter"];
export const SCOPES: readonly Scope[] = ["global", "layer", "tensor"];

/** One bit per unit, 1 = kept, 0 = masked; LSB first, padded to a byte with zeros. */
export interface KeepMask {
  readonly bits: Uint8Array;
  readonly units: number;
  readonly elementsPerUnit: number;
}

/** Scores of all units, one array per tensor; −Infinity: not eligible (already zero). Arrays must not be detached meanwhile. */
export function scoreUnits(scoring: NativeScoring): Promise<Float32Array[]> {
  return nativeAsync((addon) => addon.scoreUnits(scoring));
}

/** Exactly the k units of largest score; ties go by flat index. */
export function selectUnits(selecting: NativeSelecting): Promise<NativeSelection> {
  return nativeAsync((addon) => addon.selectUnits(selecting));
}

/** How to stop a long call and to hear how far it is. */
export interface WorkOptions {
  readonly signal?: AbortSignal | undefined;
  /** Called a few times a second with the share that is done, 0..1. */
  readonly onProgress?: ((done: number) => void) | undefined;
}

const kProgressMilliseconds = 100;

/** Runs a call that reads and writes `control`, see `NativeTopKRule`. */
async function withControl<T>(
  { signal, onProgress }: WorkOptions,
  call: (control: Int32Array) => Promise<T>,
): Promise<T> {
  throwIfAborted(signal);
  const control = new Int32Array(2);
  const abort = (): void => {
    control[0] = 1;
  };
  const timer =
    onProgress === undefined
      ? undefined
      : setInterval(() => onProgress((control[1] ?? 0) / 1000), kProgressMilliseconds);
  signal?.addEventListener("abort", abort, { once: true });
  try {
    return await call(control);
  } finally {
    clearInterval(timer);
    signal?.removeEventListener("abort", abort);
  }
}

/**
 * Scores, selects and masks in one pass over the data: what `scoreUnits`, `selectUnits` and `applyKeepMask` do one after the
 * other, bit for bit, without an array of scores. The tensors' weights are changed in place; arrays must not be touched or
 * detached meanwhile.
 *
 * @throws {@link FishermaskError} `ERR_FM_ARGUMENT`, `ERR_FM_SHAPE`, `ERR_FM_DTYPE`; `ERR_FM_NON_FINITE` naming the tensors with
 * NaN scores; `ERR_FM_ABORTED`. The weights are as before then.
 */
export function maskTopK(
  masking: Omit<NativeTopK, "control">,
  options: WorkOptions = {},
): Promise<NativeTopKResult> {
  return withControl(options, (control) =>
    nativeAsync((addon) => addon.maskTopK({ ...masking, control })),
  );
}

/**
 * The same over ranges of files: weights and sums are read once, weights written once to the outputs' ranges. After an error
 * the outputs are to be thrown away.
 *
 * @throws {@link FishermaskError} as `maskTopK`; `ERR_FM_IO`, `ERR_FM_BAD_FILE` naming file and tensor
 */
export function maskTopKOnDisk(
  masking: Omit<NativeTopKOnDisk, "control">,
  options: WorkOptions = {},
): Promise<NativeTopKResult & { readonly bytesRead: number; readonly bytesWritten: number }> {
  return withControl(options, (control) =>
    nativeAsync((addon) => addon.maskTopKOnDisk({ ...masking, control })),
  );
}

/** How many units a weight tensor has, and how many weights each. */
export function unitCount(
  shape: readonly number[],
  unit: Unit,
): { readonly units: number; readonly elementsPerUnit: number } {
  return native((addon) => addon.unitCount(shape, unit));
}

/** floor(ratio · units), as meant in decimal: 0.29 of 100 is 29. @throws `ERR_FM_ARGUMENT` outside 0..1 */
export function ratioToK(ratio: number, units: number): number {
  return native((addon) => addon.ratioToK(ratio, units));
}

/** One bit per weight instead of one per unit. */
export function expandKeepMask(mask: KeepMask): Uint8Array {
  return native((addon) => addon.expandKeepMask(mask.bits, mask.units, mask.elementsPerUnit));
}

/** Kept in both: what either masks is masked. */
export function intersectKeepMasks(a: KeepMask, b: KeepMask): KeepMask {
  return { ...a, bits: native((addon) => addon.intersectKeepMasks(a.bits, b.bits, a.units)) };
}

export function countMasked(mask: KeepMask): number {
  return native((addon) => addon.countMasked(mask.bits, mask.units));
}

/** Zeroes the masked weights in place; returns their old values in index order, for `undoKeepMask`. */
export function applyKeepMask(weights: Float32Array, mask: KeepMask): Float32Array {
  return native((addon) =>
    addon.applyKeepMask(weights, mask.bits, mask.units, mask.elementsPerUnit),
  );
}

/** Puts the old values back in place, bit for bit. */
export function undoKeepMask(weights: Float32Array, mask: KeepMask, oldValues: Float32Array): void {
  native((addon) =>
    addon.undoKeepMask(weights, mask.bits, mask.units, mask.elementsPerUnit, oldValues),
  );
}
