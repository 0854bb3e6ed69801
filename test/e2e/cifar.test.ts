import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { beforeAll, describe, expect, it } from "vitest";
import { dataPath } from "../parity/support.js";
import { temporaryFolder } from "../unit/io/support.js";
import { expectWholeFiles, floats, json, layout, readTensors, SLOW } from "./support.js";

const file = temporaryFolder();
const RECORD = 3073;
const model = dataPath("models/resnet20-12fca82f.safetensors");
const cifar = dataPath("cifar10");
const absent = model.absent ?? cifar.absent;
const network = ["--model", model.path, "--arch", "resnet20", "--normalize", "imagenet"];

describe("the pretrained ResNet-20 on CIFAR-10", { timeout: SLOW }, () => {
  beforeAll(() => {
    if (absent !== undefined) return;
    // The first 400 training and 200 test images: a run on all of them takes minutes.
    mkdirSync(file("small"));
    for (const [name, records] of [
      ["data_batch_1.bin", 400],
      ["test_batch.bin", 200],
    ] as const) {
      const bytes = readFileSync(`${cifar.path}/${name}`).subarray(0, records * RECORD);
      writeFileSync(file(`small/${name}`), bytes);
    }
    writeFileSync(
      file("small/batches.meta.txt"),
      readFileSync(`${cifar.path}/batches.meta.txt`, "utf8"),
    );
  });

  it("is right on 9,173 of the 10,000 test images", async ({ skip }) => {
    if (absent !== undefined) return skip(absent);
    const result = await json([
      "evaluate",
      ...network,
      ...["--data", `cifar10:${cifar.path}`, "--split", "test"],
    ]);
    expect(result).toMatchObject({ correct: 9173, total: 10_000, accuracy: 0.9173 });
    const perClass = result["perClass"] as { name: string; correct: number; total: number }[];
    expect(perClass.map(({ total }) => total)).toEqual(new Array(10).fill(1000));
    expect(perClass.reduce((sum, { correct }) => sum + correct, 0)).toBe(9173);
    expect(perClass[3]?.name).toBe("cat");
  });

  it("fisher writes one f32 tensor of sums per parameter, named and shaped as the model's file", async ({
    skip,
  }) => {
    if (absent !== undefined) return skip(absent);
    const out = file("f.safetensors");
    const result = await json([
      ...["fisher", ...network, "--data", `cifar10:${cifar.path}`, "--split", "train"],
      ...["--limit", "200", "--labels", "empirical", "--gradient", "per-sample"],
      ...["--temperature", "1", "--out", out],
    ]);
    expect(result).toMatchObject({ samples: 200 });
    expect(result["seconds"]).toBeGreaterThan(0);
    expect(result["samplesPerSecond"]).toBeGreaterThan(0);
    // In the network's order; the file has its tensors sorted by name.
    const byName = (rows: [string, string, readonly number[]][]) =>
      rows.sort(([a], [b]) => (a < b ? -1 : 1));
    const isParameter = ([name]: [string, unknown]) => !/running_|num_batches/.test(name);
    const parameters = [...readTensors(model.path)].filter(isParameter);
    const sums = [...readTensors(out)];
    expect(byName(sums.map(([name, { dtype, shape }]) => [name, dtype, shape]))).toEqual(
      byName(parameters.map(([name, { shape }]) => [name, "F32", shape])),
    );
    for (const [name, { bytes }] of readTensors(out)) {
      const sums = new Float32Array(Uint8Array.from(bytes).buffer);
      expect(
        sums.every((sum) => sum >= 0 && Number.isFinite(sum)),
        name,
      ).toBe(true);
    }
  });

  it("unlearn --preset default writes the run, the model in the form that it came in", async ({
    skip,
  }) => {
    if (absent !== undefined) return skip(absent);
    const out = file("run");
    const run = await json([
      ...["unlearn", ...network, "--data", `cifar10:${file("small")}`, "--forget", "class:3"],
      ...["--preset", "default", "--max-ratio", "0.004", "--out", out],
      ...["--forget-samples", "20", "--remain-samples", "50"],
    ]);
    const corners = { train: expect.any(Number), test: expect.any(Number) };
    expect(run).toMatchObject({
      before: { forget: corners, remain: corners },
      after: { forget: corners, remain: corners },
      masked: {
        units: expect.any(Number),
        total: expect.any(Number),
        perTensor: expect.any(Object),
      },
    });
    const masked = run["masked"] as { units: number; total: number };
    expect(masked.units).toBeGreaterThan(0);
    expect(masked.units).toBeLessThanOrEqual(Math.floor(0.004 * masked.total));
    const before = run["before"] as { forget: { test: number }; remain: { test: number } };
    expect(before.forget.test).toBeGreaterThan(0.7);
    expect(before.remain.test).toBeGreaterThan(0.8);
    for (const { name, seconds } of run["stages"] as { name: string; seconds: number }[]) {
      expect(seconds, name).toBeGreaterThanOrEqual(0);
    }
    expect(expectWholeFiles(out)).toEqual(
      expect.arrayContaining(["metrics.json", "model.safetensors", "report.html"]),
    );
    expect(layout(`${out}/model.safetensors`)).toEqual(layout(model.path));
    // Nothing but masked weights differs: without fine-tuning the other bytes are the file's own.
    const [old, young] = [readTensors(model.path), readTensors(`${out}/model.safetensors`)];
    let changed = 0;
    for (const [name, tensor] of young) {
      const was = floats(old.get(name));
      const moved = floats(tensor).filter((value, i) => !Object.is(value, was[i]));
      expect(
        moved.every((value) => Object.is(value, 0)),
        name,
      ).toBe(true);
      changed += moved.length;
    }
    expect(changed).toBe(masked.units);
  });
});
