import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { batches } from "../../../src/data/batches.js";
import { datasetDigest, firstSamples, subset, tokenDataset } from "../../../src/data/dataset.js";
import { loadDataset } from "../../../src/data/source.js";
import { splitForget } from "../../../src/data/split.js";
import { sequencesOf, windowsOf } from "../../../src/data/text/sequences.js";
import type { Tokenizer } from "../../../src/data/text/tokenizer.js";
import { expectError } from "../io/support.js";

/** A letter is a token: a = 10, b = 11, …; a space is 9. */
const LETTERS: Tokenizer = {
  encode: (text) =>
    Int32Array.from(text, (letter) => (letter === " " ? 9 : letter.charCodeAt(0) - 87)),
  decode: (id) => Uint8Array.of(id === 9 ? 32 : id + 87),
  bosId: 1,
  eosId: 2,
  vocabularySize: 36,
};
const BARE: Tokenizer = { ...LETTERS, bosId: null, eosId: null };

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "fishermask-text-"));
  await writeFile(
    join(folder, "tokenizer.json"),
    JSON.stringify({
      added_tokens: [],
      normalizer: null,
      pre_tokenizer: null,
      post_processor: null,
      decoder: null,
      model: { type: "BPE", vocab: { a: 0, b: 1, c: 2, " ": 3 }, merges: [], unk_token: null },
    }),
  );
});
afterAll(() => rm(folder, { recursive: true }));

async function written(name: string, text: string): Promise<string> {
  await writeFile(join(folder, name), text);
  return join(folder, name);
}

describe("rows as sequences", () => {
  it("predicts each token from those before it: of a prompt only what follows it", () => {
    const rows = [
      { prompt: "ab", text: "cd" },
      { prompt: null, text: "a" },
    ];
    const { length, size, tokens, targets, texts, labels } = sequencesOf(rows, {
      name: "x",
      tokenizer: LETTERS,
    });
    expect({ length, size, labels: [...labels] }).toEqual({ length: 6, size: 2, labels: [0, 0] });
    // <s> a b _ c d, and </s> is only predicted.
    expect([...tokens]).toEqual([1, 10, 11, 9, 12, 13, 1, 10, -1, -1, -1, -1]);
    expect([...targets]).toEqual([-1, -1, 9, 12, 13, 2, 10, 2, -1, -1, -1, -1]);
    expect(texts).toEqual(["ab cd", "a"]);
  });

  it("puts no second space where the tokenizer puts one itself", () => {
    const spaced: Tokenizer = { ...BARE, encode: (text) => LETTERS.encode(` ${text}`) };
    const { tokens } = sequencesOf([{ prompt: "a", text: "b" }], { name: "x", tokenizer: spaced });
    expect([...tokens]).toEqual([9, 10, 9]);
  });

  it("cuts at the length, counts what it cut, and refuses a row of which nothing counts", async () => {
    const rows = [
      { prompt: null, text: "abcdef" },
      { prompt: null, text: "ab" },
    ];
    const cut = sequencesOf(rows, { name: "x", tokenizer: BARE, length: 3 });
    expect([...cut.tokens]).toEqual([10, 11, 12, 10, -1, -1]);
    expect([...cut.targets]).toEqual([11, 12, 13, 11, -1, -1]);
    expect(cut.truncated).toBe(1);
    const long = [...rows, { prompt: "abcdef", text: "a" }];
    const options = { name: "x", tokenizer: BARE, length: 3 };
    await expectError(() => sequencesOf(long, options), "ERR_FM_ARGUMENT", "row 2");
    const single = [{ prompt: null, text: "a" }];
    await expectError(() => sequencesOf(single, options), "ERR_FM_ARGUMENT", "row 0");
  });
});

describe("windows of a text", () => {
  it("predicts every token once, across windows", () => {
    const windows = windowsOf("abcdefg", { name: "x", tokenizer: LETTERS, length: 3 });
    expect(windows.size).toBe(3);
    expect([...windows.tokens]).toEqual([1, 10, 11, 12, 13, 14, 15, -1, -1]);
    expect([...windows.targets]).toEqual([10, 11, 12, 13, 14, 15, 16, -1, -1]);
    expect(windows.texts).toEqual(["abc", "def", "g"]);
  });

  it("refuses a text without a token to predict", async () => {
    const options = { name: "x", tokenizer: BARE, length: 3 };
    await expectError(() => windowsOf("a", options), "ERR_FM_ARGUMENT", "x");
  });
});

describe("token data sets", () => {
  const tokens = Int32Array.of(1, 2, 3, 4, 5, -1);
  const targets = Int32Array.of(2, 3, 4, 5, 6, -1);
  const dataset = { ...tokenDataset({ length: 2, tokens, targets }), texts: ["b c", "d e", "f"] };

  it("come in batches with their targets", () => {
    const [first, second] = [...batches(subset(dataset, Int32Array.of(2, 0, 1)), { batchSize: 2 })];
    expect([...(first?.data ?? [])]).toEqual([5, -1, 1, 2]);
    expect([...(first?.labels ?? [])]).toEqual([6, -1, 2, 3]);
    expect(second).toMatchObject({ count: 1 });
  });

  it("are cut to the first samples, have a digest of tokens and targets, and refuse crops", async () => {
    const two = firstSamples(dataset, 2);
    expect(two).toMatchObject({ size: 2, texts: ["b c", "d e"] });
    const digest = await datasetDigest(dataset);
    const same = tokenDataset({ length: 2, tokens: tokens.slice(), targets: targets.slice() });
    expect(await datasetDigest(same)).toBe(digest);
    const others = [
      tokenDataset({ length: 2, tokens, targets: tokens }),
      tokenDataset({ length: 3, tokens, targets }),
      two,
    ];
    for (const other of others) expect(await datasetDigest(other)).not.toBe(digest);
    const view = subset(dataset, Int32Array.of(0));
    const augment = { crop: 1, flip: false, seed: 0, epoch: 0 };
    await expectError(
      () => batches(view, { batchSize: 1, augment }),
      "ERR_FM_UNSUPPORTED",
      "crops",
    );
  });

  it("refuse arrays that do not fit", async () => {
    const wrong = [
      { length: 4, tokens, targets },
      { length: 2, tokens, targets: targets.slice(1) },
      { length: 2, tokens: tokens.map((id) => (id === 3 ? -2 : id)), targets },
      { length: 0, tokens, targets },
    ];
    for (const parts of wrong) await expectError(() => tokenDataset(parts), "ERR_FM_ARGUMENT");
  });

  it("are split by what their texts hold", async () => {
    const split = await splitForget("match:d", dataset);
    expect([...split.forget]).toEqual([1]);
    expect([...split.remain]).toEqual([0, 2]);
    await expectError(() => splitForget("match:z", dataset), "ERR_FM_ARGUMENT", "chooses none");
    const bare = tokenDataset({ length: 2, tokens, targets });
    await expectError(() => splitForget("match:d", bare), "ERR_FM_ARGUMENT", "text data");
    await expectError(() => splitForget("class:0", dataset), "ERR_FM_ARGUMENT");
  });
});

describe("text loaders", () => {
  const load = (source: string, options = {}) =>
    loadDataset(source, { split: "train", tokenizer: folder, ...options });

  it("read rows of prompt and answer, of question and answer, and of text", async () => {
    const path = await written(
      "rows.jsonl",
      '{"question":"a","answer":"b","__proto__":1}\n\n{"text":"ab c"}\r\n{"prompt":"","answer":"c"}\n',
    );
    const dataset = await load(`jsonl:${path}`);
    expect(dataset).toMatchObject({ kind: "tokens", size: 3, texts: ["a b", "ab c", " c"] });
    expect(await load(`jsonl:${path}`, { limit: 2 })).toMatchObject({ size: 2 });
  });

  it.each([
    ["no JSON", '{"text":"a b"}\n{"text"', "line 2"],
    ["a list", "[]", "line 1"],
    ["other keys", '{"story":"a"}', '"story"'.slice(1, -1)],
    ["no text", '{"text":7}', '"text"'],
    ["nothing", "\n\n", "at least one"],
  ])("refuse rows that are %s", async (name, text, part) => {
    const path = await written(`${name.replaceAll(" ", "-")}.jsonl`, text);
    await expectError(() => load(`jsonl:${path}`), "ERR_FM_BAD_FILE", path, part);
  });

  it("read plain text in pieces, or else in windows", async () => {
    const pieces = await written("pieces.txt", "ab<|endoftext|>\n ca b\n<|endoftext|>");
    expect(await load(`text:${pieces}`)).toMatchObject({ size: 2, texts: ["ab", "ca b"] });
    const whole = await written("whole.txt", "abcabcab");
    const dataset = await load(`text:${whole}`, { length: 4 });
    expect(dataset).toMatchObject({ size: 2, length: 4 });
    expect(await load(`text:${whole}`, { length: 4, limit: 1 })).toMatchObject({ size: 1 });
  });

  it("ask for a tokenizer, and have one split", async () => {
    const path = await written("one.txt", "abc");
    await expectError(
      () => loadDataset(`text:${path}`, { split: "train" }),
      "ERR_FM_ARGUMENT",
      path,
    );
    await expectError(() => load(`text:${path}`, { split: "test" }), "ERR_FM_ARGUMENT", "train");
  });
});
