import { readFileSync } from "node:fs";
import { beforeAll, describe, expect, it } from "vitest";
import { temporaryFolder } from "../unit/io/support.js";
import {
  cli,
  expectWholeFiles,
  FASHION,
  FASHION_NORMALIZATION,
  floats,
  json,
  layout,
  readTensors,
  SLOW,
} from "./support.js";

const file = temporaryFolder();
const LIMIT = 600;
const data = ["--data", FASHION, "--normalize", FASHION_NORMALIZATION, "--threads", "1"];
const limited = [...data, "--limit", String(LIMIT)];
const trouser = ["--forget", "class:Trouser"];
let model: string[] = [];
let trained: Record<string, unknown> = {};

beforeAll(async () => {
  const path = file("model.safetensors");
  const recipe = ["--arch", "lenet", "--epochs", "3", "--batch", "32", "--learning-rate", "0.03"];
  trained = await json(["train", ...data, ...recipe, "--limit", "1000", "--out", path]);
  model = ["--model", path];
}, SLOW);

describe("from training to unlearning on the shipped Fashion-MNIST images", {
  timeout: SLOW,
}, () => {
  it("train writes a network that names its architecture and learnt something", () => {
    expect(trained["arch"]).toBe("lenet");
    expect((trained["epochs"] as { epoch: number }[]).map(({ epoch }) => epoch)).toEqual([1, 2, 3]);
    expect((trained["test"] as { accuracy: number }).accuracy).toBeGreaterThan(0.4);
    expect(layout(file("model.safetensors"))[0]).toEqual(["conv1.weight", "F32", [6, 1, 5, 5]]);
  });

  it("evaluate counts by class, subsets add up to the whole, and people get a table", async () => {
    const of = async (...more: string[]) => {
      const result = await json(["evaluate", ...model, ...data, "--split", "test", ...more]);
      return result as unknown as {
        correct: number;
        total: number;
        accuracy: number;
        perClass: { name: string; correct: number; total: number }[];
      };
    };
    const all = await of();
    expect(all.total).toBe(2000);
    expect(all.accuracy).toBe(all.correct / all.total);
    expect(all.perClass.map(({ total }) => total)).toEqual(new Array(10).fill(200));
    expect(all.perClass.reduce((sum, { correct }) => sum + correct, 0)).toBe(all.correct);
    const forget = await of("--subset", "forget", ...trouser);
    const remain = await of("--subset", "remain", ...trouser);
    expect([forget.total, remain.total]).toEqual([200, 1800]);
    expect(forget.correct).toBe(all.perClass[1]?.correct);
    expect(forget.correct + remain.correct).toBe(all.correct);
    expect((await of("--limit", "70")).total).toBe(70);
    const people = await cli(["evaluate", ...model, ...data, "--split", "test", "--limit", "70"]);
    expect(people.stdout).toMatch(/^class +right +of +accuracy\n/);
    expect(people.stdout).toMatch(/of 70 right/);
    expect(people.stderr).toContain("Evaluate: 70/70 samples");
  });

  it("fisher, mask and unlearn agree: D − D_f serves as D_r, stored Fishers give the same network", async () => {
    const fisher = async (subset: string): Promise<string> => {
      const out = file(`fisher-${subset}.safetensors`);
      const more = subset === "all" ? [] : trouser;
      const result = await json([
        "fisher",
        ...model,
        ...limited,
        "--subset",
        subset,
        ...more,
        "--out",
        out,
      ]);
      expect(result).toMatchObject({
        labels: "empirical",
        gradient: "per-sample",
        temperature: 1,
        tensors: 10,
        out,
      });
      expect(result["samplesPerSecond"]).toBeCloseTo(
        (result["samples"] as number) / (result["seconds"] as number),
        6,
      );
      counts.push(result["samples"] as number);
      return out;
    };
    const counts: number[] = [];
    const [all, forget, remain] = [
      await fisher("all"),
      await fisher("forget"),
      await fisher("remain"),
    ];
    expect(counts[0]).toBe(LIMIT);
    expect((counts[1] as number) + (counts[2] as number)).toBe(LIMIT);
    expect(layout(all)).toEqual(layout(file("model.safetensors")));
    const [f, r] = [readTensors(forget), readTensors(remain)];
    for (const [name, tensor] of readTensors(all)) {
      const [a, b] = [floats(f.get(name)), floats(r.get(name))];
      const wrong = floats(tensor).filter((sum, i) => {
        const error = Math.abs((a[i] as number) + (b[i] as number) - sum);
        // Between batches that are made up otherwise; see the unit tests for equal ones.
        return !(error <= 1e-3 * sum + 1e-12);
      });
      expect([...wrong], name).toEqual([]);
    }

    const rule = ["--criterion", "difference", "--ratio", "0.01", "--exclude-head"];
    const mask = async (name: string, ...stores: string[]) => {
      const out = file(`${name}.safetensors`);
      const written = file(`${name}-model.safetensors`);
      const result = await json([
        ...["mask", ...model, ...data, ...rule, "--fisher-forget", forget, ...stores],
        ...["--out", out, "--write-model", written],
      ]);
      return { result, out, written };
    };
    const byRemain = await mask("by-remain", "--fisher-remain", remain);
    const byAll = await mask("by-all", "--fisher-all", all);
    // 150 + 2,400 + 48,000 + 10,080 weights without the head.
    expect(byRemain.result["masked"]).toMatchObject({ units: 606, total: 60_630 });
    expect(readFileSync(byAll.out).equals(readFileSync(byRemain.out))).toBe(true);
    expect(readFileSync(byAll.written).equals(readFileSync(byRemain.written))).toBe(true);
    expect(layout(byAll.written)).toEqual(layout(file("model.safetensors")));

    const out = file("run-stored");
    const run = await json([
      ...["unlearn", ...model, ...limited, ...trouser, ...rule, "--temperature", "1"],
      ...["--fisher-forget", forget, "--fisher-all", all, "--out", out],
    ]);
    expect(readFileSync(`${out}/model.safetensors`).equals(readFileSync(byAll.written))).toBe(true);
    expect(run["masked"]).toMatchObject({ units: 606, total: 60_630 });
    const stages = (run["stages"] as { name: string }[]).map(({ name }) => name);
    expect(stages.filter((name) => name.startsWith("Fisher"))).toEqual([]);
  });

  it("unlearn writes a whole run directory, and prints its metrics alone", async () => {
    const out = file("run");
    const run = await json([
      ...["unlearn", ...model, ...limited, ...trouser, "--preset", "default", "--out", out],
      ...["--forget-samples", "30", "--remain-samples", "100", "--max-ratio", "0.01"],
      ...["--fine-tune", "1", "--fine-tune-samples", "100"],
    ]);
    expect(expectWholeFiles(out)).toEqual([
      "config.json",
      "environment.json",
      "fisher-forget.safetensors",
      "fisher-remain.safetensors",
      "mask.safetensors",
      "metrics.json",
      "model.safetensors",
      "patch.safetensors",
      "report.html",
    ]);
    const { out: place, ...metrics } = run;
    expect(place).toBe(out);
    expect(JSON.parse(readFileSync(`${out}/metrics.json`, "utf8"))).toEqual(metrics);
    for (const when of ["before", "after", "maskedOnly"]) {
      const { forget, remain } = run[when] as Record<string, { train: number; test: number }>;
      for (const corner of [forget, remain]) {
        for (const value of [corner?.train, corner?.test]) {
          expect(value).toBeGreaterThanOrEqual(0);
          expect(value).toBeLessThanOrEqual(1);
        }
      }
    }
    const masked = run["masked"] as { units: number; perTensor: Record<string, number> };
    expect(Object.values(masked.perTensor).reduce((a, b) => a + b)).toBe(masked.units);
    expect(masked.units).toBeGreaterThan(0);
    expect(layout(`${out}/model.safetensors`)).toEqual(layout(file("model.safetensors")));
    expect(readFileSync(`${out}/report.html`, "utf8")).not.toMatch(/<script|src="http/i);
    // Exactly the masked weights are 0 by default, fine-tuning or not.
    const after = readTensors(`${out}/model.safetensors`);
    for (const [name, count] of Object.entries(masked.perTensor)) {
      expect(floats(after.get(name)).filter((value) => value === 0).length).toBe(count);
    }
  });

  it("the same command twice gives the same network, byte for byte", async () => {
    const command = (out: string) => [
      ...["unlearn", ...model, ...limited, "--forget", "random:0.1", "--seed", "5"],
      ...["--forget-samples", "20", "--remain-samples", "50", "--ratio", "0.02", "--out", out],
    ];
    const [a, b] = [file("twice-a"), file("twice-b")];
    const run = await json(command(a));
    await json(command(b));
    for (const name of ["model", "mask", "patch", "fisher-forget"]) {
      const [x, y] = [a, b].map((out) => readFileSync(`${out}/${name}.safetensors`));
      expect(y?.equals(x as Buffer), name).toBe(true);
    }
    expect((run["before"] as { forget: object }).forget).toMatchObject({ test: null });
  });

  it("a later run in the same folder leaves nothing of the earlier one", async () => {
    const out = file("run-again");
    const common = ["unlearn", ...model, ...limited, ...trouser, "--out", out];
    await json([...common, "--ratio", "0.01", "--forget-samples", "20", "--remain-samples", "50"]);
    expect(expectWholeFiles(out)).toContain("mask.safetensors");
    await json([...common, "--method", "retrain", "--fine-tune", "1"]);
    const names = expectWholeFiles(out);
    expect(names).toContain("model.safetensors");
    for (const name of ["mask", "fisher-forget", "fisher-remain"]) {
      expect(names).not.toContain(`${name}.safetensors`);
    }
  });

  it("--dry-run prints the plan and makes nothing; --quiet says nothing on stderr", async () => {
    const out = file("dry");
    const plan = await json([
      ...["unlearn", ...model, ...limited, ...trouser, "--out", out, "--dry-run"],
    ]);
    expect(plan).toMatchObject({
      dryRun: true,
      candidates: expect.arrayContaining(["fc1.weight"]),
    });
    expect((plan["forget"] as number) + (plan["remain"] as number)).toBe(LIMIT);
    expect(() => expectWholeFiles(out)).toThrow("ENOENT");
    const quiet = await cli(["evaluate", ...model, ...limited, "--json", "--quiet"]);
    expect(quiet).toMatchObject({ code: 0, stderr: "" });
    expect(JSON.parse(quiet.stdout)).toMatchObject({ total: LIMIT });
  });

  it("doctor says what is here", async () => {
    const facts = await json(["doctor"]);
    expect(facts["ops"]).toContain("conv2d");
    expect(facts).toMatchObject({ schemaVersion: 1, node: process.version });
    expect(facts["cuda"]).toBeDefined();
  });
});
