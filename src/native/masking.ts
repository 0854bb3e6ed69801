import {
  type NativeScoring,
  type NativeSelecting,
  type NativeSelection,
  native,
  nativeAsync,
} from "./addon.js";

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
