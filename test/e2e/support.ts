import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { expect } from "vitest";

export const MAIN = resolve("dist/cli/main.js");
export const FASHION = "idx:examples/data/fashion-mnist";
export const FASHION_NORMALIZATION = "0.2860/0.3530";
/** Seconds on an idle machine; minutes on one that is busy with other work. */
export const SLOW = 300_000;

export interface Ending {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs `fishermask ARGS` as a child process. `watch` sees the child and all of stderr so far, each time there is more. */
export function cli(
  args: readonly string[],
  watch: (child: ChildProcess, stderr: string) => void = () => undefined,
): Promise<Ending> {
  if (!existsSync(MAIN)) throw new Error(`${MAIN} is missing: npm run build makes it`);
  return new Promise((settle, reject) => {
    const child = spawn(process.execPath, [MAIN, ...args], { stdio: ["ignore", "pipe", "pipe"] });
    let stdout = "";
    let stderr = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr += text;
      watch(child, stderr);
    });
    child.once("error", reject);
    child.once("close", (code, signal) => settle({ code, signal, stdout, stderr }));
  });
}

/** Runs with `--json`, expects success and exactly one JSON object on stdout. */
export async function json(args: readonly string[]): Promise<Record<string, unknown>> {
  const ending = await cli([...args, "--json"]);
  expect(ending).toMatchObject({ code: 0, signal: null });
  expect(ending.stdout).toMatch(/^\{.*\}\n$/);
  return JSON.parse(ending.stdout) as Record<string, unknown>;
}

/** Runs and expects this exit code, a message that holds the words, and nothing on stdout. */
export async function fails(
  args: readonly string[],
  code: number,
  ...words: readonly string[]
): Promise<void> {
  const ending = await cli(args);
  expect({ ...ending, stderr: "" }, ending.stderr).toEqual({
    code,
    signal: null,
    stdout: "",
    stderr: "",
  });
  for (const word of words) expect(ending.stderr).toContain(word);
  expect(ending.stderr).not.toContain("unexpected error");
}

export interface Tensor {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly bytes: Buffer;
}

/** A safetensors file that the tests trust; the library has its own, wary reader. */
export function readTensors(path: string): Map<string, Tensor> {
  const bytes = readFileSync(path);
  const start = 8 + Number(bytes.readBigUInt64LE());
  const header = JSON.parse(bytes.toString("utf8", 8, start)) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >;
  return new Map(
    Object.entries(header)
      .filter(([name]) => name !== "__metadata__")
      .map(
        ([
          name,
          {
            dtype,
            shape,
            data_offsets: [begin, end],
          },
        ]) => {
          if (start + end > bytes.length) throw new Error(`${path} ends within ${name}`);
          return [name, { dtype, shape, bytes: bytes.subarray(start + begin, start + end) }];
        },
      ),
  );
}

export function floats(tensor: Tensor | undefined): Float32Array {
  if (tensor === undefined) throw new Error("there is no such tensor");
  return new Float32Array(Uint8Array.from(tensor.bytes).buffer);
}

/** Names, dtypes and shapes, in the file's order. */
export function layout(path: string): unknown[] {
  return [...readTensors(path)].map(([name, { dtype, shape }]) => [name, dtype, shape]);
}

/** Expects a folder whose every file is whole: JSON that parses, safetensors as long as they say. */
export function expectWholeFiles(folder: string): string[] {
  const names = readdirSync(folder).filter((name) => !name.endsWith(".tmp"));
  for (const name of names) {
    const path = join(folder, name);
    if (name.endsWith(".json")) JSON.parse(readFileSync(path, "utf8"));
    else if (name.endsWith(".safetensors")) readTensors(path);
    else if (name.endsWith(".html")) expect(readFileSync(path, "utf8")).toMatch(/<\/html>\s*$/);
    else expect.fail(`${path} is a file of no known kind`);
  }
  return names.sort();
}
