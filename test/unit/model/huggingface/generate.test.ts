import { describe, expect, it } from "vitest";
import { type GenerateOptions, generate } from "../../../../src/model/huggingface/generate.js";
import { openHuggingFaceModel } from "../../../../src/model/huggingface/open.js";
import { loadNetwork } from "../../../../src/model/model.js";
import { expectError } from "../../io/support.js";

const kLlama = "test/fixtures/parity/transformers/llama";
const kContext = 32;
const kVocabulary = 29;
const kGreedy = { prompt: [3, 1, 4], tokens: 31, stop: [], temperature: 0, seed: 0, threads: 1 };

async function ids(options: Partial<GenerateOptions> = {}): Promise<number[]> {
  const all: number[] = [];
  for await (const id of generate(kLlama, { ...kGreedy, ...options })) all.push(id);
  return all;
}

function largest(row: Float64Array): number {
  return row.indexOf(Math.max(...row));
}

/** softmax(row / temperature)[id] */
function share(row: Float64Array, id: number, temperature: number): number {
  const odds = row.map((value) => Math.exp(value / temperature));
  return (odds[id] as number) / odds.reduce((sum, value) => sum + value);
}

describe("generate", () => {
  it("takes the most probable id after each position", async () => {
    const made = await ids();
    expect(made).toHaveLength(31);
    expect(made.slice(0, 2)).toEqual([1, 4]);
    // All at once: a causal network's logits at a position do not depend on what comes later.
    const sequence = Int32Array.from([3, ...made]);
    using network = await loadNetwork(await openHuggingFaceModel(kLlama), { threads: 1 });
    const logits = (await network.run(new Map([["ids", sequence]]), ["logits"])).get("logits");
    const rows = Array.from({ length: kContext - 1 }, (_, t) =>
      (logits as Float64Array).subarray(t * kVocabulary, (t + 1) * kVocabulary),
    );
    expect(made.slice(2)).toEqual(rows.slice(2).map(largest));
  });

  it("ends at a stop id, which is not yielded, and after as many tokens as asked", async () => {
    const made = await ids();
    expect(await ids({ tokens: 7 })).toEqual(made.slice(0, 7));
    const stop = made[6] as number;
    expect(await ids({ stop: [stop] })).toEqual(made.slice(0, made.indexOf(stop)));
    expect(await ids({ stop: [4] })).toEqual([1]);
  });

  it("draws as often as the probabilities say", async () => {
    const kDraws = 300;
    const temperature = 5;
    using network = await loadNetwork(await openHuggingFaceModel(kLlama, { sequenceLength: 1 }), {
      threads: 1,
    });
    const input = new Map([["ids", Int32Array.of(3)]]);
    const row = (await network.run(input, ["logits"])).get("logits") as Float64Array;
    const counts = new Map<number, number>();
    for (let seed = 0; seed < kDraws; seed++) {
      const [id = -1] = await ids({ prompt: [3], tokens: 1, temperature, seed });
      counts.set(id, (counts.get(id) ?? 0) + 1);
    }
    for (let id = 0; id < kVocabulary; id++) {
      const expected = kDraws * share(row, id, temperature);
      // Five standard deviations of a Poisson count.
      const distance = Math.abs((counts.get(id) ?? 0) - expected);
      expect(distance, `id ${id}`).toBeLessThan(5 * Math.sqrt(expected) + 1);
    }
  });

  it("names the option that does not fit, and stops when told", async () => {
    await expectError(() => ids({ prompt: [] }), "ERR_FM_ARGUMENT", "prompt", "none");
    await expectError(() => ids({ prompt: [29] }), "ERR_FM_ARGUMENT", "prompt", "29");
    await expectError(() => ids({ tokens: 33 }), "ERR_FM_ARGUMENT", "tokens", "32");
    await expectError(() => ids({ temperature: -1 }), "ERR_FM_ARGUMENT", "temperature");
    await expectError(() => ids({ seed: 0.5 }), "ERR_FM_ARGUMENT", "seed");
    const signal = AbortSignal.abort();
    await expectError(() => ids({ signal }), "ERR_FM_ABORTED");
  });
});
