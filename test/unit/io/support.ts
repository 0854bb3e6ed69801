import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, expect } from "vitest";
import type { FishermaskError, FishermaskErrorCode } from "../../../src/native/errors.js";

/** The real files, kept out of the repository. */
export const DATA = resolve(process.env["FISHERMASK_DATA"] ?? "../shared/data");

/** A temporary folder for one test file; call it at the top of a describe or the file. */
export function temporaryFolder(): (name: string) => string {
  let folder = "";
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "fishermask-test-"));
  });
  afterAll(async () => {
    await rm(folder, { recursive: true, force: true });
  });
  return (name) => join(folder, name);
}

/** Expects an error of this code whose message names each of the words. */
export async function expectError(
  action: () => unknown,
  code: FishermaskErrorCode,
  ...words: string[]
): Promise<void> {
  const error = await (async () => action())().then(
    (value) => expect.fail(`expected ${code} but got ${String(value)}`),
    (reason: unknown) => reason as FishermaskError,
  );
  expect(error).toMatchObject({ code });
  for (const word of words) {
    expect(error.message).toContain(word);
  }
}

/** A safetensors file from a header's text and its data. */
export function safetensorsBytes(header: string | Uint8Array, dataBytes = 0): Uint8Array {
  const json = typeof header === "string" ? new TextEncoder().encode(header) : header;
  const bytes = new Uint8Array(8 + json.length + dataBytes);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(json.length), true);
  bytes.set(json, 8);
  return bytes;
}

export async function writeBytes(path: string, bytes: Uint8Array): Promise<string> {
  await writeFile(path, bytes);
  return path;
}

export async function temporaryFilesIn(folder: string): Promise<string[]> {
  return (await readdir(folder)).filter((name) => name.endsWith(".tmp"));
}
