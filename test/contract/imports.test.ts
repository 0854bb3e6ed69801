import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { afterEach, describe, expect, it } from "vitest";

const kScript = resolve("scripts/check-imports.mjs");
const roots: string[] = [];

/** The exit code and messages of the import rule over a tree of these files. */
function check(files: Readonly<Record<string, string>>): { code: number | null; text: string } {
  const root = mkdtempSync(join(tmpdir(), "fishermask imports "));
  roots.push(root);
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    writeFileSync(join(root, name), text);
  }
  const { status, stderr } = spawnSync(process.execPath, [kScript, root], { encoding: "utf8" });
  return { code: status, text: stderr };
}

afterEach(() => {
  for (const root of roots.splice(0)) rmSync(root, { recursive: true, force: true });
});

describe("the import rule", () => {
  it("holds in this repository", () => {
    const { status, stderr } = spawnSync(process.execPath, [kScript], { encoding: "utf8" });
    expect(stderr).toBe("");
    expect(status).toBe(0);
  });

  it("lets a room use its own tier and the tiers below", () => {
    const { code, text } = check({
      "src/index.ts": 'export * from "./cli/main.js";\n',
      "src/cli/main.ts": 'import { a } from "../unlearn/a.js";\nimport "../version.js";\n',
      "src/version.ts": 'import "node:module";\n',
      "src/unlearn/a.ts": 'export { b } from "../evaluate/b.js";\nimport "./criteria/x.js";\n',
      "src/unlearn/criteria/x.ts": 'import { e } from "../../native/errors.js";\n',
      "src/io/c.ts": 'import type { NativeBatch } from "../native/addon.js";\nimport "node:fs";\n',
      "src/native/addon.ts": 'const x = require("node-gyp-build");\nexport default x;\n',
    });
    expect(text).toBe("");
    expect(code).toBe(0);
  });

  it.each([
    ["a lower tier uses a higher one", "src/io/c.ts", 'import { a } from "../unlearn/a.js";'],
    ["native uses model", "src/native/n.ts", 'import { g } from "../model/graph.js";'],
    ["over several lines", "src/data/d.ts", 'import {\n  a,\n  b,\n} from "../report/a.js";'],
    ["types count, too", "src/data/d.ts", 'import type { A } from "../train/a.js";'],
    ["a re-export", "src/model/m.ts", 'export * from "../cli/main.js";'],
    ["for its effect alone", "src/model/m.ts", 'import "../evaluate/a.js";'],
    ["at run time", "src/model/m.ts", 'const a = await import("../unlearn/a.js");'],
    ["a room uses the entry", "src/cli/main.ts", 'import { a } from "../index.js";'],
    ["out of src", "src/cli/main.ts", 'import { a } from "../../test/a.js";'],
    ["the loader outside native", "src/io/c.ts", 'import load from "node-gyp-build";'],
    ["the binary outside native", "src/io/c.ts", 'require("../../build/Release/fishermask.node");'],
    ["a file below all rooms uses one", "src/version.ts", 'import { a } from "./io/a.js";'],
    ["a room without a tier", "src/extra/e.ts", 'import { a } from "../io/a.js";'],
  ])("names the file when %s", (_what, file, line) => {
    const { code, text } = check({ "src/index.ts": "", [file]: `${line}\n` });
    expect(text).toContain(file);
    expect(text.trim().split("\n")).toHaveLength(1);
    expect(code).toBe(1);
  });

  it("does not read examples in doc comments", () => {
    const { code } = check({ "src/io/c.ts": '/**\n * import { a } from "../cli/a.js";\n */\n' });
    expect(code).toBe(0);
  });
});
