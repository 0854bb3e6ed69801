import { execFile, spawn } from "node:child_process";
import { mkdir, readFile, stat, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import { writeFileAtomic } from "../../../src/io/atomic-write.js";
import { expectError, temporaryFilesIn, temporaryFolder } from "./support.js";

const at = temporaryFolder();

async function* pieces(...texts: string[]): AsyncGenerator<Uint8Array> {
  for (const text of texts) {
    yield new TextEncoder().encode(text);
  }
}

describe("writeFileAtomic", () => {
  it("writes text, bytes and pieces", async () => {
    await writeFileAtomic(at("text"), "grüße");
    expect(await readFile(at("text"), "utf8")).toBe("grüße");
    await writeFileAtomic(at("bytes"), new Uint8Array([1, 2, 3]));
    expect([...(await readFile(at("bytes")))]).toEqual([1, 2, 3]);
    await writeFileAtomic(at("iterable"), [
      new Uint8Array([1]),
      new Uint8Array(0),
      new Uint8Array([2]),
    ]);
    expect([...(await readFile(at("iterable")))]).toEqual([1, 2]);
    await writeFileAtomic(at("async"), pieces("ab", "c"));
    expect(await readFile(at("async"), "utf8")).toBe("abc");
    await writeFileAtomic(at("empty"), []);
    expect((await readFile(at("empty"))).length).toBe(0);
  });

  it("replaces a file and makes it 0644 minus umask", async () => {
    await writeFile(at("old"), "old");
    const umask = process.umask(0o027);
    try {
      await writeFileAtomic(at("old"), "new");
    } finally {
      process.umask(umask);
    }
    expect(await readFile(at("old"), "utf8")).toBe("new");
    expect((await stat(at("old"))).mode & 0o777).toBe(0o640);
  });

  it("leaves the old file and nothing else when the content fails, and passes its error on", async () => {
    await writeFile(at("kept"), "old");
    const failure = new Error("no more");
    async function* failing(): AsyncGenerator<Uint8Array> {
      yield new Uint8Array(100);
      throw failure;
    }
    await expect(writeFileAtomic(at("kept"), failing())).rejects.toBe(failure);
    expect(await readFile(at("kept"), "utf8")).toBe("old");
    expect(await temporaryFilesIn(at("."))).toEqual([]);
  });

  it("names the path when the folder is missing", async () => {
    const path = at("missing/file");
    await expectError(() => writeFileAtomic(path, "x"), "ERR_FM_IO", path, "ENOENT");
  });

  it("leaves no temporary file when the path cannot be replaced", async () => {
    await mkdir(at("folder"));
    await expectError(
      () => writeFileAtomic(at("folder"), "x"),
      "ERR_FM_IO",
      at("folder"),
      "replace",
    );
    expect(await temporaryFilesIn(at("."))).toEqual([]);
  });

  it("reports a full disk and leaves the old file", async ({ skip }) => {
    // A child whose files may hold 1 MiB: the same failed write as on a full disk.
    const script = await compiledWriter();
    const path = await oldFile("full");
    const run = promisify(execFile);
    const command = `trap '' XFSZ; ulimit -f 1024; exec "$0" "$@"`;
    skip(process.platform !== "linux", "needs ulimit -f");
    const args = ["-c", command, process.execPath, script, path, "once"];
    const { stdout } = await run("bash", args);
    expect(stdout).toContain("ERR_FM_IO");
    expect(stdout).toContain(path);
    expect(await readFile(path, "utf8")).toBe("old");
    expect(await temporaryFilesIn(dirname(path))).toEqual([]);
  }, 60_000);

  it("leaves the old or a whole new file when the process is killed", async () => {
    const script = await compiledWriter();
    const path = await oldFile("killed");
    let kept = 0;
    for (let round = 0; round < 20; round += 1) {
      const before = await readFile(path);
      await killDuringWrite(script, path, round * 3);
      const after = await readFile(path);
      const whole = after.length === kBigBytes && after.every((byte) => byte === after[0]);
      expect(after.equals(before) || whole).toBe(true);
      kept += after.equals(before) ? 1 : 0;
    }
    // Most kills must have come before the rename, else this test shows nothing.
    expect(kept).toBeGreaterThan(5);
  }, 120_000);
});

const kBigBytes = 32 * 1024 * 1024;

async function oldFile(folder: string): Promise<string> {
  await mkdir(at(folder));
  await writeFile(at(`${folder}/file`), "old");
  return at(`${folder}/file`);
}

let compiled: Promise<string> | undefined;

/** A script for a plain Node process: it writes 32 MiB to its first argument, once or for ever. */
function compiledWriter(): Promise<string> {
  compiled ??= compile();
  return compiled;
}

async function compile(): Promise<string> {
  const out = at("compiled");
  await mkdir(out);
  await writeFile(join(out, "package.json"), '{"type":"module"}');
  const options = [
    "--ignoreConfig",
    "--module",
    "nodenext",
    "--target",
    "es2022",
    "--types",
    "node",
  ];
  await promisify(execFile)("node_modules/.bin/tsc", [
    ...options,
    ...["--skipLibCheck", "--rootDir", "src", "--outDir", out, "src/io/atomic-write.ts"],
  ]);
  const script = join(out, "writer.mjs");
  await writeFile(
    script,
    `import { writeFileAtomic } from ${JSON.stringify(pathToFileURL(resolve(out, "io/atomic-write.js")).href)};
     const [, , path, times] = process.argv;
     function* content(fill) {
       for (let i = 0; i < 512; i += 1) {
         if (i === 8) process.stdout.write("writing\\n");
         yield new Uint8Array(${kBigBytes / 512}).fill(fill);
       }
     }
     try {
       let fill = 1;
       do {
         await writeFileAtomic(path, content(fill));
         fill = (fill % 250) + 1;
       } while (times !== "once");
     } catch (error) {
       console.log(error.code, error.message);
     }`,
  );
  return script;
}

/** Starts a writer, waits until its first write is under way and kills it a little later. */
async function killDuringWrite(script: string, path: string, delayMs: number): Promise<void> {
  const child = spawn(process.execPath, [script, path, "forever"], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const ended = new Promise<NodeJS.Signals | null>((done) => {
    child.on("exit", (_code, signal) => done(signal));
  });
  await new Promise((done) => child.stdout.once("data", done));
  await new Promise((done) => setTimeout(done, delayMs));
  child.kill("SIGKILL");
  expect(await ended).toBe("SIGKILL");
}
