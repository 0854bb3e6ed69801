import { spawn } from "node:child_process";
import { resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { getArchitecture } from "../../src/model/architectures.js";

const kChild = resolve("test/contract/lifecycle-child.mjs");
const kGraph = JSON.stringify(
  getArchitecture("mlp").build({ inputShape: [784], classes: 10, hidden: [256] }),
);
const kIterations = 20;

interface Ending {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stderr: string;
  readonly stdout: string;
}

function run(step: string): Promise<Ending> {
  return new Promise((settle, reject) => {
    const child = spawn(process.execPath, [kChild, step, process.cwd(), kGraph]);
    let stdout = "";
    let stderr = "";
    child.stdout.on("data", (text) => {
      stdout += text;
    });
    child.stderr.on("data", (text) => {
      stderr += text;
    });
    child.once("error", reject);
    child.once("close", (code, signal) => settle({ code, signal, stderr, stdout }));
  });
}

async function expectCleanExits(step: string, iterations: number): Promise<void> {
  const stdout = step.startsWith("process.exit") ? expect.any(String) : "end\n";
  for (let i = 0; i < iterations; i += 1) {
    expect(await run(step)).toEqual({ code: 0, signal: null, stderr: "", stdout });
  }
}

describe("a process with the addon ends with code 0 and no signal", () => {
  it.each([
    "after load",
    "process.exit after load",
    "after its jobs",
    "with jobs running",
    "process.exit with jobs running",
    "process.exit with a network and its jobs running",
    "after dispose",
    "after dispose with a job running",
    "without dispose",
    "two workers and the main thread at once",
  ])(`%s, ${kIterations} times`, { timeout: 300_000 }, (step) =>
    expectCleanExits(step, kIterations),
  );

  it.each(["workers that end by themselves", "worker.terminate() during jobs"])(
    `%s, 20 workers one after the other`,
    { timeout: 300_000 },
    (step) => expectCleanExits(step, 1),
  );
});
