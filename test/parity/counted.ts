// Weights and inputs that Python and TypeScript make alike: test/fixtures/generate/counted.py says how.

const kFnvOffset = 0x811c9dc5;
const kFnvPrime = 0x01000193;
const kGolden = 0x9e3779b9;

function nameHash(name: string): number {
  let value = kFnvOffset;
  for (const byte of Buffer.from(name, "utf8")) value = Math.imul(value ^ byte, kFnvPrime) >>> 0;
  return value;
}

/** Word i of the stream that starts at a name's hash. */
function word(hash: number, i: number): number {
  let x = (hash + Math.imul(i, kGolden)) >>> 0;
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return (x ^ (x >>> 16)) >>> 0;
}

/** u · scale + shift with u uniform in [−1, 1), rounded to f32 once. */
function fill(name: string, count: number, scale: number, shift = 0): Float32Array {
  const hash = nameHash(name);
  const values = new Float32Array(count);
  for (let i = 0; i < count; i += 1) values[i] = (word(hash, i) * 2 ** -31 - 1) * scale + shift;
  return values;
}

function product(sizes: readonly number[]): number {
  return sizes.reduce((a, b) => a * b, 1);
}

/** A parameter's values: matrices and kernels of deviation gain / √fan-in, vectors by what their name says. */
export function countedValue(name: string, shape: readonly number[], gain: number): Float32Array {
  const count = product(shape);
  if (name.endsWith("running_var")) return fill(name, count, 1 / 2, 1);
  if (shape.length > 1) return fill(name, count, gain * Math.sqrt(3 / product(shape.slice(1))));
  return name.endsWith("weight") ? fill(name, count, 1 / 4, 1) : fill(name, count, 1 / 4);
}

/** (N, H, W, C), uniform of deviation 1. */
export function countedImages(name: string, shape: readonly number[]): Float32Array {
  return fill(name, product(shape), Math.sqrt(3));
}

/** Flat places in a tensor of `size` values. */
export function countedEntries(name: string, size: number, count: number): number[] {
  const hash = nameHash(`${name}/entries`);
  return Array.from({ length: count }, (_, i) => word(hash, i) % size);
}
