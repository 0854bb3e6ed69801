import { spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { RunMetrics } from "../../src/evaluate/run-metrics.js";
import { DATA, temporaryFolder } from "../unit/io/support.js";
import { type Ending, SLOW } from "./support.js";

const file = temporaryFolder();

/** Runs `node examples/NAME ARGS` with the data in this folder. */
function example(name: string, args: readonly string[], data = DATA): Promise<Ending> {
  return new Promise((settle, reject) => {
    const child = spawn(process.execPath, [join("examples", name), ...args], {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, FISHERMASK_DATA: data },
    });
    const texts = { stdout: "", stderr: "" };
    for (const stream of ["stdout", "stderr"] as const) {
      child[stream].setEncoding("utf8").on("data", (text: string) => {
        texts[stream] += text;
      });
    }
    child.once("error", reject);
    child.once("close", (code, signal) => settle({ code, signal, ...texts }));
  });
}

function missing(...paths: readonly string[]): string | undefined {
  const absent = paths.map((path) => join(DATA, path)).filter((path) => !existsSync(path));
  return absent.length === 0 ? undefined : `no ${absent.join(", no ")}: set FISHERMASK_DATA`;
}

describe("the examples with images", { timeout: SLOW }, () => {
  it.each(["forget-a-person.mjs", "forget-in-onnx.mjs"])(
    "%s says what is missing where there are no data, and is content",
    async (name) => {
      const ending = await example(name, [file("nothing")], file("no-data"));
      expect(ending, ending.stderr).toMatchObject({ code: 0, stderr: "" });
      expect(ending.stdout).toMatch(/^SKIPPED: there (is|are) no .*FISHERMASK_DATA/);
      expect(ending.stdout).toContain(file("no-data"));
      expect(existsSync(file("nothing"))).toBe(false);
    },
  );

  it("forget-a-person.mjs forgets one of 40 and keeps the others", async ({ skip }) => {
    const absent = missing("orl-faces");
    if (absent !== undefined) return skip(absent);
    const out = file("person");
    const ending = await example("forget-a-person.mjs", [out]);
    expect(ending, ending.stderr).toMatchObject({ code: 0 });
    expect(ending.stdout).toContain("candidate weights masked");
    const metrics = JSON.parse(readFileSync(join(out, "metrics.json"), "utf8")) as RunMetrics;
    const { before, after } = metrics;
    expect([before.forget.train, before.forget.test]).toEqual([1, 1]);
    expect(after.forget.train).toBe(0);
    expect(after.forget.test).toBe(0);
    expect(after.remain.train!).toBeGreaterThan(before.remain.train! - 0.02);
    expect(after.remain.test!).toBeGreaterThan(before.remain.test! - 0.05);
    expect(readFileSync(join(out, "report.html"), "utf8")).toContain("person 1");
  });

  it("forget-in-onnx.mjs changes the file's weights alone, and onnxruntime agrees", async ({
    skip,
  }) => {
    const absent = missing("cifar10", "models/resnet20-12fca82f.safetensors");
    if (absent !== undefined) return skip(absent);
    const out = file("onnx");
    // Its own checks end it with another code: bytes, logits, accuracies.
    const ending = await example("forget-in-onnx.mjs", [out]);
    expect(ending, ending.stderr).toMatchObject({ code: 0 });
    expect(ending.stdout).toMatch(/\d+ of \d+ bytes differ, all of them theirs/);
    expect(ending.stdout).toMatch(
      /onnxruntime and the engine: 1000 x 10 logits, at most \d\.\de-\d+ apart/,
    );
    const [old, young] = ["resnet20.onnx", "without-cat.onnx"].map((name) =>
      readFileSync(join(out, name)),
    );
    expect(young?.length).toBe(old?.length);
    expect(young?.equals(old ?? Buffer.of())).toBe(false);
  });
});
