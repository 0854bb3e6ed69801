import { readFileSync, writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { dataPath } from "../parity/support.js";
import { temporaryFolder } from "../unit/io/support.js";
import { cli, fails, json, SLOW } from "./support.js";

const kUsage = 2;
const kBadInput = 3;
const model = dataPath("models/stories260K.safetensors");
const tokenizer = dataPath("models/tok512.bin");
const greedy = dataPath("models/expected_greedy_200.txt");
const absent = model.absent ?? tokenizer.absent ?? greedy.absent;
const file = temporaryFolder();

const kGenerate = ["generate", "--model", model.path, "--tokenizer", tokenizer.path];

async function text(...args: readonly string[]): Promise<string> {
  const ending = await cli([...kGenerate, "--quiet", ...args]);
  expect(ending, ending.stderr).toMatchObject({ code: 0, signal: null });
  return ending.stdout;
}

describe("generate", { timeout: SLOW }, () => {
  it("writes llama2.c's greedy text from nothing, byte for byte", async ({ skip }) => {
    if (absent !== undefined) return skip(absent);
    const expected = readFileSync(greedy.path, "utf8");
    expect(Buffer.byteLength(expected)).toBe(464);
    expect(await text("--prompt", "", "--tokens", "200", "--greedy")).toBe(expected);
    // The same without saying so, and as the limit of drawing.
    expect(await text("--tokens", "40")).toBe(
      await text("--tokens", "40", "--temperature", "1e-6"),
    );
    expect(expected.startsWith(await text("--tokens", "40"))).toBe(true);
  });

  it("continues a prompt, whose tokens count", async ({ skip }) => {
    if (absent !== undefined) return skip(absent);
    const prompt = "Once upon a time, there was";
    const written = await text("--prompt", prompt, "--tokens", "40");
    expect(readFileSync(greedy.path, "utf8").startsWith(written)).toBe(true);
    expect(written.startsWith(prompt)).toBe(true);
    expect(written).toBe(await text("--tokens", "40"));
  });

  it("draws the same text under one seed, and others under others", async ({ skip }) => {
    if (absent !== undefined) return skip(absent);
    const drawn = (seed: string) => text("--tokens", "40", "--temperature", "1", "--seed", seed);
    const [one, again, other] = [await drawn("1"), await drawn("1"), await drawn("2")];
    expect(again).toBe(one);
    expect(other).not.toBe(one);
    expect(one.length).toBeGreaterThan(40);
  });

  it("prints ids and text as one JSON object", async ({ skip }) => {
    if (absent !== undefined) return skip(absent);
    const result = await json([...kGenerate, "--tokens", "20"]);
    expect(result).toMatchObject({
      schemaVersion: 1,
      prompt: [1],
      text: await text("--tokens", "20"),
    });
    expect(result["ids"]).toHaveLength(20);
  });

  it("refuses what it cannot do", async ({ skip }) => {
    if (absent !== undefined) return skip(absent);
    await fails(
      [...kGenerate, "--greedy", "--temperature", "1"],
      kUsage,
      "--greedy",
      "--temperature",
    );
    await fails([...kGenerate, "--temperature", "0"], kUsage, "--temperature");
    await fails([...kGenerate, "--tokens", "513"], kUsage, "tokens", "512", "513");
    await fails(["generate", "--tokenizer", tokenizer.path], kUsage, "--model");
    const bert = "test/fixtures/parity/transformers/bert";
    const words = ["a causal language model", "bert", "ERR_FM_ARGUMENT"];
    await fails(["generate", "--model", bert, "--tokenizer", tokenizer.path], kUsage, ...words);
    writeFileSync(file("cut.safetensors"), readFileSync(model.path).subarray(0, 5000));
    const cut = ["--model", file("cut.safetensors"), "--tokenizer", tokenizer.path];
    await fails(["generate", ...cut], kBadInput, "cut.safetensors");
    await fails(["generate", "--model", model.path], kBadInput, "stories260K.safetensors");
  });
});
