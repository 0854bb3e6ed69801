/** The four 32-bit words of a Philox block. */
export type PhiloxWords = [number, number, number, number];

const kMultiplier0 = 0xd2511f53;
const kMultiplier1 = 0xcd9e8d57;
const kWeyl0 = 0x9e3779b9;
const kWeyl1 = 0xbb67ae85;
const kRounds = 10;
const kTwo32 = 2 ** 32;

/** The upper 32 bits of a 32 × 32 bit product, by halves, as a double holds only 53 bits exactly. */
function multiplyHigh(a: number, b: number): number {
  const aLow = a & 0xffff;
  const aHigh = a >>> 16;
  const bLow = b & 0xffff;
  const bHigh = b >>> 16;
  const middle = aHigh * bLow + ((aLow * bLow) >>> 16);
  const carry = aLow * bHigh + (middle & 0xffff);
  return (aHigh * bHigh + Math.floor(middle / 0x10000) + Math.floor(carry / 0x10000)) >>> 0;
}

/**
 * Philox4x32-10: four random words from four counter words and two key words, all unsigned 32-bit integers.
 *
 * Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC11.
 */
export function philox4x32(
  counter: Readonly<PhiloxWords>,
  key: readonly [number, number],
): PhiloxWords {
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < kRounds; round += 1) {
    const high0 = multiplyHigh(kMultiplier0, c0);
    const high1 = multiplyHigh(kMultiplier1, c2);
    const low0 = Math.imul(kMultiplier0, c0) >>> 0;
    const low1 = Math.imul(kMultiplier1, c2) >>> 0;
    c0 = (high1 ^ c1 ^ k0) >>> 0;
    c1 = low1;
    c2 = (high0 ^ c3 ^ k1) >>> 0;
    c3 = low0;
    k0 = (k0 + kWeyl0) >>> 0;
    k1 = (k1 + kWeyl1) >>> 0;
  }
  return [c0, c1, c2, c3];
}

/** Which random numbers: `seed` and `stream` are safe integers from 0. */
export interface PhiloxKey {
  readonly seed: number;
  readonly stream: number;
}

function low(value: number): number {
  return value % kTwo32;
}

function high(value: number): number {
  return Math.floor(value / kTwo32);
}

/** Block `block` of a stream, the same words as `fishermask::philox` of the engine. */
export function philox(key: PhiloxKey, block: number): PhiloxWords {
  const { seed, stream } = key;
  return philox4x32([low(block), high(block), low(stream), high(stream)], [low(seed), high(seed)]);
}

/** A whole number in [0, bound) from one word. Off from uniform by less than bound / 2^32: for small bounds only. */
export function scaleWord(word: number, bound: number): number {
  return Math.floor((word / kTwo32) * bound);
}

/** Reads a stream's words one after the other. */
export class PhiloxStream {
  private block = 0;
  private words: number[] = [];

  constructor(private readonly key: PhiloxKey) {}

  private next(): number {
    if (this.words.length === 0) {
      this.words = philox(this.key, this.block).reverse();
      this.block += 1;
    }
    return this.words.pop() as number;
  }

  /** A whole number in [0, bound), exactly uniform; `bound` from 1 to 2^32. */
  below(bound: number): number {
    // Words of the last, incomplete run of `bound` values are drawn again.
    const limit = kTwo32 - (kTwo32 % bound);
    let word = this.next();
    while (word >= limit) {
      word = this.next();
    }
    return word % bound;
  }
}
