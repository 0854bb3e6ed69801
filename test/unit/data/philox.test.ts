import { describe, expect, it } from "vitest";
import {
  PhiloxStream,
  type PhiloxWords,
  philox,
  philox4x32,
  scaleWord,
} from "../../../src/data/philox.js";
import { randomStream } from "../../../src/data/random-stream.js";
import { expectError } from "../io/support.js";

const kOnes = 0xffffffff;

describe("philox4x32", () => {
  // Random123's kat_vectors, philox4x32 10.
  it.each<[string, PhiloxWords, [number, number], PhiloxWords]>([
    ["zeros", [0, 0, 0, 0], [0, 0], [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]],
    [
      "ones",
      [kOnes, kOnes, kOnes, kOnes],
      [kOnes, kOnes],
      [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
    ],
    [
      "digits of pi",
      [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
      [0xa4093822, 0x299f31d0],
      [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
    ],
  ])("gives the published words for %s", (_what, counter, key, words) => {
    expect(philox4x32(counter, key)).toEqual(words);
  });

  it("agrees with the definition in big integers", () => {
    for (let i = 0; i < 500; i += 1) {
      const [a, b, c, d] = philox({ seed: i, stream: 99 }, i);
      expect(philox4x32([a, b, c, d], [b, d])).toEqual(bigPhilox([a, b, c, d], [b, d]));
    }
  });
});

function bigPhilox(counter: number[], key: number[]): number[] {
  const mask = 0xffffffffn;
  let [c0, c1, c2, c3] = counter.map(BigInt) as [bigint, bigint, bigint, bigint];
  let [k0, k1] = key.map(BigInt) as [bigint, bigint];
  for (let round = 0; round < 10; round += 1) {
    const p0 = 0xd2511f53n * c0;
    const p1 = 0xcd9e8d57n * c2;
    [c0, c1, c2, c3] = [(p1 >> 32n) ^ c1 ^ k0, p1 & mask, (p0 >> 32n) ^ c3 ^ k1, p0 & mask];
    k0 = (k0 + 0x9e3779b9n) & mask;
    k1 = (k1 + 0xbb67ae85n) & mask;
  }
  return [c0, c1, c2, c3].map(Number);
}

describe("philox", () => {
  it("lays block, stream and seed out as the engine does", () => {
    const seed = 5 * 2 ** 32 + 6;
    const stream = 3 * 2 ** 32 + 4;
    expect(philox({ seed, stream }, 2 ** 32 + 2)).toEqual(philox4x32([2, 1, 4, 3], [6, 5]));
  });
});

describe("PhiloxStream", () => {
  it("stays below its bound and reaches every value about equally often", () => {
    const random = new PhiloxStream({ seed: 1, stream: 2 });
    const counts = new Array<number>(7).fill(0);
    for (let i = 0; i < 70_000; i += 1) {
      counts[random.below(7)]! += 1;
    }
    // Standard deviation 93: six of them.
    for (const count of counts) {
      expect(Math.abs(count - 10_000)).toBeLessThan(560);
    }
    expect(random.below(1)).toBe(0);
    expect(random.below(2 ** 32)).toBeLessThan(2 ** 32);
  });

  it("draws again where a word would make small values likelier", () => {
    // Of 2^32 words, those from 3 · 2^30 up are no whole run of 3 · 2^30 values.
    const bound = 3 * 2 ** 30;
    const key = { seed: 7, stream: 0 };
    const words = Array.from({ length: 100 }, (_, block) => philox(key, block)).flat();
    const random = new PhiloxStream(key);
    for (const word of words.filter((value) => value < bound)) {
      expect(random.below(bound)).toBe(word);
    }
  });
});

describe("scaleWord", () => {
  it("covers the range from end to end", () => {
    expect(scaleWord(0, 9)).toBe(0);
    expect(scaleWord(kOnes, 9)).toBe(8);
  });
});

describe("randomStream", () => {
  it("separates purposes and epochs", () => {
    const streams = (["shuffle", "augment", "forget", "occlude"] as const).flatMap((purpose) =>
      [0, 1, 2 ** 32 - 1].map((epoch) => randomStream(purpose, 1, epoch).stream),
    );
    expect(new Set(streams).size).toBe(12);
    expect(streams.every(Number.isSafeInteger)).toBe(true);
  });

  it.each([-1, 1.5, Number.NaN, 2 ** 53])("refuses %d", async (value) => {
    await expectError(
      () => randomStream("shuffle", value, 0),
      "ERR_FM_ARGUMENT",
      "seed",
      `${value}`,
    );
    await expectError(
      () => randomStream("shuffle", 0, value),
      "ERR_FM_ARGUMENT",
      "epoch",
      `${value}`,
    );
  });
});
