import { writeFile } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import { arrayDataset } from "../../../src/data/dataset.js";
import { checkDisjoint, type ForgetSplit, splitForget } from "../../../src/data/split.js";
import { expectError, temporaryFolder } from "../io/support.js";
import { numberedDataset } from "./support.js";

const at = temporaryFolder();
const kDataset = numberedDataset(10, [1, 1, 1]);

function expectPartition(split: ForgetSplit, size: number): void {
  const both = [...split.forget, ...split.remain].sort((a, b) => a - b);
  expect(both).toEqual(Array.from({ length: size }, (_, i) => i));
  for (const side of [split.forget, split.remain]) {
    expect([...side]).toEqual([...side].sort((a, b) => a - b));
  }
  checkDisjoint(split.forget, split.remain);
}

async function fileOf(text: string): Promise<string> {
  await writeFile(at("list"), text);
  return at("list");
}

describe("class", () => {
  it.each([
    ["class:1", [1, 4, 7], "class 1 (bee)"],
    ["class:bee", [1, 4, 7], "class 1 (bee)"],
    ["class:cat,0", [0, 2, 3, 5, 6, 8, 9], "class 2 (cat), 0 (ant)"],
    ["class:cat, ant", [0, 2, 3, 5, 6, 8, 9], "class 2 (cat), 0 (ant)"],
  ])("%s", async (text, forget, description) => {
    const split = await splitForget(text, kDataset);
    expect([...split.forget]).toEqual(forget);
    expect(split.description).toBe(description);
    expect(split.trueLabels).toBeUndefined();
    expectPartition(split, 10);
  });

  it.each([
    ["class:dog", "ant, bee, cat"],
    ["class:3", "0 to 2"],
    ["class:-1", "0 to 2"],
    ["class:1,bee", "each class once"],
    ["class:1,", "ant, bee, cat"],
  ])("refuses %s", async (text, word) => {
    await expectError(() => splitForget(text, kDataset), "ERR_FM_ARGUMENT", word);
  });

  it("refuses a text that is one class's name and another's index", async () => {
    const dataset = numberedDataset(4, [1, 1, 1], ["1", "0"]);
    await expectError(() => splitForget("class:1", dataset), "ERR_FM_ARGUMENT", "both a name");
    const same = numberedDataset(4, [1, 1, 1], ["0", "1"]);
    expect([...(await splitForget("class:1", same)).forget]).toEqual([1, 3]);
  });

  it("cuts a long list of names in its message", async () => {
    const classes = Array.from({ length: 30 }, (_, i) => `name${i}`);
    const dataset = numberedDataset(30, [1, 1, 1], classes);
    await expectError(
      () => splitForget("class:x", dataset),
      "ERR_FM_ARGUMENT",
      "name19, …",
      "0 to 29",
    );
  });
});

describe("ids", () => {
  it("reads one index a line, with comments", async () => {
    const path = await fileOf("# to forget\r\n7\r\n\n 2 # why\n0\n");
    const split = await splitForget(`ids:${path}`, kDataset);
    expect([...split.forget]).toEqual([0, 2, 7]);
    expect(split.description).toContain(path);
    expectPartition(split, 10);
  });

  it.each([
    ["10\n", ["line 1", "0 to 9", "10"]],
    ["1\n#\n-1\n", ["line 3", "-1"]],
    ["1.0\n", ["line 1", "1.0"]],
    ["0x1\n", ["line 1", "0x1"]],
    ["99999999999999999999\n", ["line 1"]],
    ["3\n5\n\n3\n", ["line 4", "line 1", "each index once"]],
  ])("refuses %j", async (text, words) => {
    const path = await fileOf(text);
    await expectError(
      () => splitForget(`ids:${path}`, kDataset),
      "ERR_FM_BAD_FILE",
      path,
      ...words,
    );
  });

  it("refuses a file that is missing or chooses none", async () => {
    const missing = `ids:${at("none")}`;
    await expectError(() => splitForget(missing, kDataset), "ERR_FM_IO", at("none"));
    const empty = `ids:${await fileOf("# nothing\n")}`;
    await expectError(() => splitForget(empty, kDataset), "ERR_FM_ARGUMENT", "chooses none");
  });
});

describe("random", () => {
  const dataset = numberedDataset(100, [1, 1, 1]);

  it.each([
    ["0.1", 10],
    ["0.29", 29],
    ["0.999", 99],
    ["1e-2", 1],
  ])("random:%s chooses %d of 100", async (fraction, count) => {
    const split = await splitForget(`random:${fraction}`, dataset, { seed: 4 });
    expect(split.forget.length).toBe(count);
    expect(split.description).toBe(`random ${fraction}, seed 4`);
    expectPartition(split, 100);
  });

  it("is the same for the same seed, another for another", async () => {
    const [first, again, other] = await Promise.all(
      [1, 1, 2].map(async (seed) => (await splitForget("random:0.2", dataset, { seed })).forget),
    );
    expect(again).toEqual(first);
    expect(other).not.toEqual(first);
  });

  it.each(["0", "-0.1", "1.1", "x", " ", "NaN", "0.5x"])("refuses random:%s", async (fraction) => {
    await expectError(
      () => splitForget(`random:${fraction}`, dataset),
      "ERR_FM_ARGUMENT",
      "fraction",
    );
  });

  it("refuses to choose none, or a bad seed", async () => {
    await expectError(() => splitForget("random:0.001", dataset), "ERR_FM_ARGUMENT", "none");
    const bad = { seed: -1 };
    await expectError(() => splitForget("random:0.5", dataset, bad), "ERR_FM_ARGUMENT", "seed");
  });

  it("refuses to choose all, unless that is allowed", async () => {
    await expectError(() => splitForget("random:1", dataset), "ERR_FM_ARGUMENT", "chooses all");
    const split = await splitForget("random:1", dataset, { allowEmptyRemain: true });
    expect([split.forget.length, split.remain.length]).toEqual([100, 0]);
  });
});

describe("mislabelled", () => {
  it("reads indices and true labels, as names or indices, and sorts them together", async () => {
    const path = await fileOf("index,trueLabel\n7,cat\n# x\n 0 , 1 \n4,ant\n");
    const split = await splitForget(`mislabelled:${path}`, kDataset);
    expect([...split.forget]).toEqual([0, 4, 7]);
    expect([...split.trueLabels!]).toEqual([1, 0, 2]);
    expectPartition(split, 10);
  });

  it.each([
    ["7\n", ["line 1", "index,trueLabel"]],
    ["7,1,2\n", ["line 1", "index,trueLabel"]],
    ["0,1\n0,2\n", ["line 2", "line 1"]],
    ["12,1\n", ["line 1", "0 to 9"]],
    ["1,dog\n", ["line 1", "class", "dog"]],
    ["1,3\n", ["line 1", "class", "3"]],
    ["0,1\n1,bee\n", ["line 2", "other than the data's (1)", "bee"]],
  ])("refuses %j", async (text, words) => {
    const path = await fileOf(text);
    const forget = `mislabelled:${path}`;
    await expectError(() => splitForget(forget, kDataset), "ERR_FM_BAD_FILE", path, ...words);
  });
});

describe("splitForget", () => {
  it.each(["", "class", "class:", "ids:", "samples:3", ":3", "toString:1"])(
    "refuses %j",
    async (text) => {
      await expectError(() => splitForget(text, kDataset), "ERR_FM_ARGUMENT", "mislabelled:FILE");
    },
  );

  it("refuses a class without samples", async () => {
    const dataset = arrayDataset({
      classes: ["a", "b"],
      shape: [1, 1, 1],
      images: new Uint8Array(1),
      labels: new Int32Array([0]),
    });
    await expectError(() => splitForget("class:b", dataset), "ERR_FM_ARGUMENT", "chooses none");
  });
});

describe("checkDisjoint", () => {
  it("names the first index that both have", async () => {
    const a = new Int32Array([1, 3, 5]);
    checkDisjoint(a, new Int32Array([0, 2, 4]));
    checkDisjoint(a, new Int32Array(0));
    const b = new Int32Array([0, 5, 3]);
    await expectError(() => checkDisjoint(a, b), "ERR_FM_ARGUMENT", "5 in both");
  });
});
