import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const DATA = process.env["FISHERMASK_DATA"] ?? join(ROOT, "../shared/data");
const NEEDED = ["models/stories260K.safetensors", "text/tofu/forget10.jsonl"];
const absent = NEEDED.map((name) => join(DATA, name)).filter((path) => !existsSync(path));

describe("the example on text", () => {
  it("learns authors and forgets one of them", async ({ skip }) => {
    if (absent.length > 0) return skip(`${absent.join(", ")} is absent`);
    const folder = await mkdtemp(join(tmpdir(), "fishermask-author-"));
    try {
      const script = join(ROOT, "examples/forget-an-author.mjs");
      const out = join(folder, "run");
      const text = execFileSync(process.execPath, [script, out], {
        cwd: ROOT,
        encoding: "utf8",
        env: { ...process.env, FISHERMASK_DATA: DATA },
      });
      expect(text).toContain("80 rows, 20 to forget");
      const metrics = JSON.parse(readFileSync(join(out, "metrics.json"), "utf8"));
      expect(metrics.before.forget.train).toBeGreaterThan(0.7);
      expect(metrics.maskedOnly.forget.train).toBeLessThanOrEqual(0.31);
      expect(metrics.maskedOnly.remain.train).toBeGreaterThan(0.55);
      expect(metrics.after.remain.train).toBeGreaterThan(metrics.after.forget.train + 0.1);
      for (const name of ["model.safetensors", "mask.safetensors", "report.html"]) {
        expect(existsSync(join(out, name)), name).toBe(true);
      }
    } finally {
      await rm(folder, { recursive: true });
    }
  }, 240_000);
});
