import { SafetensorsFile, type TensorSource, writeSafetensors } from "../io/safetensors.js";
import { FishermaskError } from "../native/errors.js";
import { weightsDigest } from "./fisher-store.js";

/**
 * What turns the old weights into the new ones, and back: per changed tensor one bit per weight (1 = changed, LSB first),
 * the old values of the changed weights in index order, and the new ones unless all are 0 (masking alone).
 */
export interface Patch {
  readonly before: string;
  readonly after: string;
  readonly tensors: ReadonlyMap<string, TensorPatch>;
}

export interface TensorPatch {
  readonly size: number;
  readonly changed: Uint8Array;
  readonly oldValues: Float32Array;
  /** Null: all zero. */
  readonly newValues: Float32Array | null;
}

type Weights = ReadonlyMap<string, Float32Array>;
const FORMAT = "fishermask.patch.1";

function isChanged(patch: TensorPatch, i: number): boolean {
  return (((patch.changed[i >> 3] as number) >> (i & 7)) & 1) === 1;
}

function patchOf(before: Float32Array, after: Float32Array): TensorPatch | null {
  const changed = new Uint8Array(Math.ceil(before.length / 8));
  const indices: number[] = [];
  for (let i = 0; i < before.length; i++) {
    // Object.is: −0 becoming +0 is a change of bytes.
    if (Object.is(before[i], after[i])) continue;
    changed[i >> 3] = (changed[i >> 3] as number) | (1 << (i & 7));
    indices.push(i);
  }
  if (indices.length === 0) return null;
  const newValues = Float32Array.from(indices, (i) => after[i] as number);
  return {
    size: before.length,
    changed,
    oldValues: Float32Array.from(indices, (i) => before[i] as number),
    newValues: newValues.every((value) => Object.is(value, 0)) ? null : newValues,
  };
}

/** @throws {@link FishermaskError} `ERR_FM_MISMATCH` when the two are not of the same tensors */
export function makePatch(before: Weights, after: Weights): Patch {
  const tensors = new Map<string, TensorPatch>();
  for (const [name, values] of before) {
    const other = after.get(name);
    if (other?.length !== values.length) {
      throw new FishermaskError(
        "ERR_FM_MISMATCH",
        `Expected tensor "${name}" of ${values.length} weights in both networks`,
      );
    }
    const patch = patchOf(values, other);
    if (patch !== null) tensors.set(name, patch);
  }
  const added = [...after.keys()].find((name) => !before.has(name));
  if (added !== undefined) {
    throw new FishermaskError(
      "ERR_FM_MISMATCH",
      `Expected tensor "${added}" in both networks but the old one has none`,
    );
  }
  return { before: weightsDigest(before), after: weightsDigest(after), tensors };
}

function replay(
  weights: Weights,
  patch: Patch,
  [from, to]: readonly [from: string, to: string],
  valueAt: (tensor: TensorPatch, n: number) => number,
): Map<string, Float32Array> {
  if (weightsDigest(weights) !== from) {
    throw new FishermaskError(
      "ERR_FM_MISMATCH",
      "Expected the weights that the patch was made for but received others",
    );
  }
  const out = new Map(weights);
  for (const [name, tensor] of patch.tensors) {
    const values = weights.get(name)?.slice();
    if (values?.length !== tensor.size) {
      throw new FishermaskError(
        "ERR_FM_MISMATCH",
        `Expected tensor "${name}" of ${tensor.size} weights for the patch but received ${values?.length ?? "none"}`,
      );
    }
    let n = 0;
    for (let i = 0; i < values.length; i++) {
      if (isChanged(tensor, i)) values[i] = valueAt(tensor, n++);
    }
    out.set(name, values);
  }
  // A patch whose values were damaged must not pass for the network that it was made of.
  if (weightsDigest(out) !== to) {
    throw new FishermaskError(
      "ERR_FM_MISMATCH",
      "Expected the patch to lead to the weights that it names but it leads to others: it is damaged",
    );
  }
  return out;
}

/** The new weights. @throws `ERR_FM_MISMATCH` when these are not the weights that the patch starts from, or it is damaged */
export function applyPatch(weights: Weights, patch: Patch): Map<string, Float32Array> {
  return replay(
    weights,
    patch,
    [patch.before, patch.after],
    (tensor, n) => tensor.newValues?.[n] ?? 0,
  );
}

/** The old weights, bit for bit. @throws `ERR_FM_MISMATCH` when these are not the weights that the patch leads to, or it is damaged */
export function revertPatch(weights: Weights, patch: Patch): Map<string, Float32Array> {
  return replay(
    weights,
    patch,
    [patch.after, patch.before],
    (tensor, n) => tensor.oldValues[n] as number,
  );
}

function bytesOf(values: Float32Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}

export async function savePatch(patch: Patch, path: string): Promise<void> {
  const tensors: TensorSource[] = [];
  for (const [name, { changed, oldValues, newValues }] of patch.tensors) {
    tensors.push({
      name: `old/${name}`,
      dtype: "F32",
      shape: [oldValues.length],
      data: bytesOf(oldValues),
    });
    if (newValues !== null) {
      tensors.push({
        name: `new/${name}`,
        dtype: "F32",
        shape: [newValues.length],
        data: bytesOf(newValues),
      });
    }
    tensors.push({ name: `changed/${name}`, dtype: "U8", shape: [changed.length], data: changed });
  }
  const sizes = Object.fromEntries(
    [...patch.tensors].map(([name, { size }]) => [`size/${name}`, String(size)]),
  );
  await writeSafetensors(path, tensors, {
    format: FORMAT,
    before: patch.before,
    after: patch.after,
    ...sizes,
  });
}

function changedCount(changed: Uint8Array): number {
  let count = 0;
  for (const byte of changed) {
    for (let rest = byte; rest !== 0; rest &= rest - 1) count += 1;
  }
  return count;
}

/** One bit a weight, and zeros for the padding. */
function covers(changed: Uint8Array, size: number): boolean {
  if (!Number.isSafeInteger(size) || changed.length !== Math.ceil(size / 8)) return false;
  return size % 8 === 0 || (changed.at(-1) ?? 0) >> (size % 8) === 0;
}

async function readValues(file: SafetensorsFile, name: string): Promise<Float32Array | null> {
  return file.tensors.get(name)?.dtype === "F32" ? file.readFloat32(name) : null;
}

/** @throws {@link FishermaskError} `ERR_FM_BAD_FILE` naming file and tensor; `ERR_FM_IO` */
export async function loadPatch(path: string): Promise<Patch> {
  await using file = await SafetensorsFile.open(path);
  const bad = (what: string): FishermaskError =>
    new FishermaskError("ERR_FM_BAD_FILE", `Expected ${what} in the patch ${path}`);
  const { metadata } = file;
  if (metadata.get("format") !== FORMAT) throw bad(`format ${FORMAT}`);
  const before = metadata.get("before");
  const after = metadata.get("after");
  if (before === undefined || after === undefined) throw bad("the digests before and after");
  const tensors = new Map<string, TensorPatch>();
  for (const key of file.tensors.keys()) {
    if (!key.startsWith("changed/")) continue;
    const name = key.slice("changed/".length);
    const size = Number(metadata.get(`size/${name}`));
    const changed = await file.readBytes(key);
    if (!covers(changed, size)) throw bad(`one bit a weight for tensor "${name}"`);
    const oldValues = await readValues(file, `old/${name}`);
    const newValues = await readValues(file, `new/${name}`);
    const count = changedCount(changed);
    const complete = (newValues !== null) === file.tensors.has(`new/${name}`);
    if (!complete || oldValues?.length !== count || (newValues ?? oldValues).length !== count) {
      throw bad(`as many F32 values as changed weights for tensor "${name}"`);
    }
    tensors.set(name, { size, changed, oldValues, newValues });
  }
  return { before, after, tensors };
}
