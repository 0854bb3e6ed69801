import { mkdirSync, readdirSync, readFileSync } from "node:fs";
import { beforeAll, describe, expect, it } from "vitest";
import { createModel, saveModel } from "../../src/model/model.js";
import { temporaryFolder } from "../unit/io/support.js";
import { cli, type Ending, expectWholeFiles, FASHION, SLOW } from "./support.js";

const file = temporaryFolder();
const INTERRUPTED = 130;
// A batch takes milliseconds and the whole run minutes; a machine under load may still take its time.
const kPromptMs = 20_000;
const common = ["--data", FASHION, "--threads", "1"];
let unlearn: string[] = [];

beforeAll(async () => {
  const model = createModel({ arch: "lenet", inputShape: [28, 28, 1], classes: 10 }, 1);
  await saveModel(model, model.weights, file("lenet.safetensors"));
  unlearn = ["unlearn", "--model", file("lenet.safetensors"), ...common, "--forget", "class:3"];
});

interface Stopped extends Ending {
  readonly millisecondsAfter: number;
}

/** Sends the signal as soon as stderr holds the text, or `delayMs` after that. */
async function stopAt(
  args: readonly string[],
  text: string,
  signal: NodeJS.Signals,
  delayMs = 0,
): Promise<Stopped> {
  let sent = 0;
  const ending = await cli(args, (child, stderr) => {
    if (sent > 0 || !stderr.includes(text)) return;
    sent = performance.now();
    if (delayMs === 0) child.kill(signal);
    else setTimeout(() => child.kill(signal), delayMs);
  });
  expect(sent, ending.stderr).toBeGreaterThan(0);
  return { ...ending, millisecondsAfter: performance.now() - sent };
}

describe("Ctrl-C", { timeout: SLOW }, () => {
  // Each of these would go on for minutes.
  const retrain = ["--method", "retrain", "--fine-tune", "2000"];
  const masking = ["--preset", "prototype", "--ratio-per-round", "0.0001", "--max-ratio", "1"];
  it.each([
    ["in training", retrain, "Retrain: started"],
    ["between rounds of masking", [...masking, "--target-loss", "1e9"], "round 2:"],
    ["while measuring", masking, "Before, training samples: started"],
  ] as const)("%s ends with 130 within a batch, and nothing is written", async (_, more, text) => {
    const out = file(`run-${text.replaceAll(/\W/g, "-")}`);
    const ending = await stopAt([...unlearn, ...more, "--out", out, "--json"], text, "SIGINT");
    expect(ending).toMatchObject({ code: INTERRUPTED, signal: null, stdout: "" });
    expect(ending.stderr).toContain("Stopping at the next batch");
    expect(ending.stderr).toMatch(/\[ERR_FM_ABORTED\]\n$/);
    expect(ending.millisecondsAfter).toBeLessThan(kPromptMs);
    // The place was tried out before the work began; nothing else was made, no temporary file either.
    expect(readdirSync(out)).toEqual(["environment.json"]);
  });

  it("ends train without a network", async () => {
    const folder = file("train");
    mkdirSync(folder);
    const args = ["train", "--arch", "lenet", ...common, "--epochs", "2000"];
    const ending = await stopAt(
      [...args, "--out", `${folder}/m.safetensors`],
      "Train: started",
      "SIGINT",
    );
    expect(ending).toMatchObject({ code: INTERRUPTED, signal: null, stdout: "" });
    expect(ending.millisecondsAfter).toBeLessThan(kPromptMs);
    expect(readdirSync(folder)).toEqual([]);
  });

  it("twice ends at once", async () => {
    let sent = 0;
    const args = [...unlearn, ...retrain, "--out", file("run-twice")];
    const ending = await cli(args, (child, stderr) => {
      if (sent === 0 && stderr.includes("Retrain: started")) {
        sent = 1;
        child.kill("SIGINT");
        child.kill("SIGINT");
      }
    });
    expect(ending).toMatchObject({ code: INTERRUPTED, signal: null });
  });
});

describe("a kill that cannot be caught", { timeout: SLOW }, () => {
  it("during the work leaves no network", async () => {
    const out = file("killed");
    const args = [...unlearn, "--method", "retrain", "--fine-tune", "2000", "--out", out];
    const ending = await stopAt(args, "Retrain: started", "SIGKILL");
    expect(ending).toMatchObject({ code: null, signal: "SIGKILL" });
    expect(expectWholeFiles(out)).toEqual(["environment.json"]);
  });

  it("while an earlier run is replaced leaves every file old or new, never half", async () => {
    const out = file("replaced");
    const quick = ["--limit", "200", "--forget-samples", "10", "--remain-samples", "20"];
    const run = (ratio: string) => [...unlearn, ...quick, "--ratio", ratio, "--out", out];
    expect((await cli(run("0.01"))).code).toBe(0);
    const old = readFileSync(`${out}/model.safetensors`);
    expect((await cli([...run("0.02").slice(0, -1), file("other")])).code).toBe(0);
    const young = readFileSync(`${file("other")}/model.safetensors`);
    expect(old.equals(young)).toBe(false);
    for (const delayMs of [0, 30, 60, 120]) {
      await stopAt(run("0.02"), "After, test samples: started", "SIGKILL", delayMs);
      expect(expectWholeFiles(out)).toContain("model.safetensors");
      const now = readFileSync(`${out}/model.safetensors`);
      expect(now.equals(old) || now.equals(young)).toBe(true);
    }
  });
});
