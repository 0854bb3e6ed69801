import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { afterEach, beforeEach, describe, expect, it } from "vitest";

const kRoot = resolve(".");

// Prints what the package's own loader answers: an op of the addon, or the error as a caller sees it.
const kProbe = `
const { addon } = await import(process.argv[1]);
try {
  console.log(JSON.stringify({ ops: addon().ops().length }));
} catch (error) {
  console.log(JSON.stringify({ name: error.name, code: error.code, message: error.message }));
}`;

function probe(packageRoot: string): Record<string, unknown> {
  const module = pathToFileURL(join(packageRoot, "dist/native/addon.js")).href;
  const child = spawnSync(process.execPath, ["--input-type=module", "-e", kProbe, module], {
    encoding: "utf8",
    cwd: tmpdir(),
  });
  expect(child.stderr).toBe("");
  return JSON.parse(child.stdout) as Record<string, unknown>;
}

let copy = "";

beforeEach(() => {
  if (!existsSync(join(kRoot, "dist/native/addon.js"))) {
    throw new Error("Expected dist/ to be built: npm run build");
  }
  copy = mkdtempSync(join(tmpdir(), "fishermask package "));
  cpSync(join(kRoot, "dist"), join(copy, "dist"), { recursive: true });
  cpSync(join(kRoot, "package.json"), join(copy, "package.json"));
  symlinkSync(join(kRoot, "node_modules"), join(copy, "node_modules"));
});

afterEach(() => rmSync(copy, { recursive: true, force: true }));

describe("the built package finds its native library", () => {
  it("in the checkout, from any working directory", () => {
    expect(probe(kRoot)).toEqual({ ops: expect.any(Number) });
  });

  it("in a copy at a path with a space", () => {
    mkdirSync(join(copy, "build"));
    cpSync(join(kRoot, "build/Release"), join(copy, "build/Release"), { recursive: true });
    expect(probe(copy)).toEqual({ ops: expect.any(Number) });
  });

  it("or names the platform, the place and the command that builds it", () => {
    const error = probe(copy);
    expect(error).toMatchObject({ name: "FishermaskError", code: "ERR_FM_NO_PREBUILD" });
    const { message } = error as { message: string };
    expect(message).toContain(`${process.platform}-${process.arch}`);
    expect(message).toContain(copy);
    expect(message).toContain("npm run setup");
  });
});
