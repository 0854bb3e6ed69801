import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { mergeByScore } from "../../../src/data/text/merge-by-score.js";
import { openTokenizer, type Tokenizer } from "../../../src/data/text/tokenizer.js";
import { expectError } from "../io/support.js";

const DATA = process.env["FISHERMASK_DATA"] ?? "../shared/data";
const TOK512 = join(DATA, "models/tok512.bin");

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "fishermask-tokenizer-"));
});
afterAll(() => rm(folder, { recursive: true }));

async function written(name: string, data: string | Uint8Array): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, data);
  return path;
}

function textOf(tokenizer: Tokenizer, ids: Int32Array): string {
  const parts = Array.from(ids, (id, i) =>
    tokenizer.decode(id, i === 0 ? (tokenizer.bosId ?? undefined) : ids[i - 1]),
  );
  return Buffer.concat(parts).toString("utf8");
}

/** Byte-pair encoding as it is usually written down: look at every pair, join the best, begin again. */
function naiveMerge(pieces: readonly string[], scores: ReadonlyMap<string, number>): string[] {
  const list = [...pieces];
  for (;;) {
    let best = -1;
    let bestScore = Number.NEGATIVE_INFINITY;
    for (let i = 0; i + 1 < list.length; i++) {
      const score = scores.get(`${list[i]}${list[i + 1]}`);
      if (score !== undefined && score > bestScore) [best, bestScore] = [i, score];
    }
    if (best < 0) return list;
    list.splice(best, 2, `${list[best]}${list[best + 1]}`);
  }
}

describe("merging by score", () => {
  it("equals the plain algorithm, on any text and any scores, equal ones included", () => {
    const piece = fc.string({ unit: fc.constantFrom("a", "b", "c"), minLength: 2, maxLength: 4 });
    const scores = fc.array(fc.tuple(piece, fc.integer({ min: -3, max: 3 })), { maxLength: 20 });
    const text = fc.array(fc.constantFrom("a", "b", "c"), { maxLength: 40 });
    fc.assert(
      fc.property(text, scores, (pieces, entries) => {
        const known = new Map(entries);
        const merged = mergeByScore(pieces, (key) => known.get(key));
        expect(merged).toEqual(naiveMerge(pieces, known));
      }),
      { numRuns: 500, seed: 4 },
    );
  });
});

describe.skipIf(!existsSync(TOK512))(`llama2.c's form (skipped without ${TOK512})`, () => {
  it("encodes words as the tokens that hold them, after a leading space", async () => {
    const tokenizer = await openTokenizer(TOK512);
    expect(tokenizer).toMatchObject({ bosId: 1, eosId: 2, vocabularySize: 512 });
    // 265 is " the", 261 " a": the file's own table.
    expect([...tokenizer.encode("the")]).toEqual([265]);
    expect([...tokenizer.encode("the a")]).toEqual([265, 261]);
    expect(tokenizer.encode("").length).toBe(0);
    expect(Buffer.from(tokenizer.decode(265)).toString()).toBe(" the");
    expect(Buffer.from(tokenizer.decode(265, 1)).toString()).toBe("the");
  });

  it("gives any text back, through bytes where it has no token", async () => {
    const tokenizer = await openTokenizer(TOK512);
    fc.assert(
      fc.property(fc.string({ unit: "binary", minLength: 1, maxLength: 40 }), (text) => {
        expect(textOf(tokenizer, tokenizer.encode(text))).toBe(text);
      }),
      { numRuns: 200, seed: 5 },
    );
    expect([...tokenizer.encode("é")].length).toBeGreaterThan(0);
  });

  it("refuses the file cut off anywhere but between tokens, and lengths that reach beyond it", async () => {
    const whole = new Uint8Array(await readFile(TOK512));
    const cut = await written("cut.bin", whole.subarray(0, whole.length - 1));
    await expectError(() => openTokenizer(cut), "ERR_FM_BAD_FILE", "cut.bin", "token 511");
    const few = await written("few.bin", whole.subarray(0, 4 + 13));
    await expectError(() => openTokenizer(few), "ERR_FM_BAD_FILE", "at least 259 tokens");
    const long = Uint8Array.from(whole);
    new DataView(long.buffer).setInt32(8, 2 ** 31 - 1, true);
    const far = await written("far.bin", long);
    await expectError(() => openTokenizer(far), "ERR_FM_BAD_FILE", "token 0");
    const empty = await written("empty.bin", new Uint8Array(0));
    await expectError(() => openTokenizer(empty), "ERR_FM_BAD_FILE", "empty.bin");
  });
});

describe("Hugging Face's form", () => {
  const bytes = { h: 0, e: 1, l: 2, o: 3, Ġ: 4, Ã: 5, "©": 6, he: 7, ll: 8, Ġhe: 9 };
  const json = {
    added_tokens: [
      { id: 10, content: "<|end|>", special: true },
      { id: 11, content: "<|begin|>", special: true },
    ].map((token) => ({
      ...token,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
    })),
    normalizer: null,
    pre_tokenizer: {
      type: "ByteLevel",
      add_prefix_space: false,
      trim_offsets: true,
      use_regex: true,
    },
    post_processor: null,
    decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: { type: "BPE", vocab: bytes, merges: ["h e", "l l", "Ġ he"], unk_token: null },
  };

  it("encodes, and decodes bytes of a character token by token", async () => {
    const path = await written("tokenizer.json", JSON.stringify(json));
    await written(
      "tokenizer_config.json",
      JSON.stringify({ bos_token: "<|begin|>", eos_token: { content: "<|end|>" } }),
    );
    for (const at of [path, folder]) {
      const tokenizer = await openTokenizer(at);
      expect(tokenizer).toMatchObject({ bosId: 11, eosId: 10, vocabularySize: 12 });
      expect([...tokenizer.encode("hello hello")]).toEqual([7, 8, 3, 9, 8, 3]);
      expect([...tokenizer.encode("é")]).toEqual([5, 6]);
      expect([...tokenizer.decode(5)]).toEqual([0xc3]);
      expect(textOf(tokenizer, tokenizer.encode("hello é hello"))).toBe("hello é hello");
      expect(tokenizer.decode(999).length).toBe(0);
    }
  });

  it.each([
    ["no JSON", "{"],
    ["a list", "[]"],
    ["an unknown model", JSON.stringify({ ...json, model: { type: "Zebra", vocab: {} } })],
    ["no model", "{}"],
  ])("refuses %s", async (name, text) => {
    const path = await written(`${name.replaceAll(" ", "-")}.json`, text);
    await expectError(() => openTokenizer(path), "ERR_FM_BAD_FILE", path);
  });
});
