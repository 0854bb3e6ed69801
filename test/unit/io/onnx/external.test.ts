import { mkdir, symlink, truncate, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { describe, expect, it } from "vitest";
import { normalLocation } from "../../../../src/io/onnx/location.js";
import type { OnnxArray } from "../../../../src/io/onnx/model.js";
import { OnnxFile } from "../../../../src/io/onnx/onnx-file.js";
import { expectError, temporaryFolder } from "../support.js";
import { adding, bytesOf, external, raw, tensor } from "./writer.js";

const at = temporaryFolder();
let number = 0;

async function folder(): Promise<string> {
  number += 1;
  const path = at(`folder-${number}`);
  await mkdir(path);
  return path;
}

function modelWith(entries: Readonly<Record<string, string>>): Uint8Array {
  return adding(tensor("w", "float", [1, 4], external(entries)));
}

const kValues = Float32Array.of(1, 2, 3, 4);

/** Writes a model whose weights are at byte 4 of `location`, and the files named. */
async function write(path: string, location: string, ...files: readonly string[]): Promise<string> {
  for (const file of [path, ...files]) {
    await mkdir(dirname(file), { recursive: true });
  }
  await writeFile(path, modelWith({ location, offset: "4", length: "16" }));
  for (const file of files) {
    await writeFile(file, bytesOf(Float32Array.of(0, ...kValues)));
  }
  return path;
}

async function readWeights(path: string): Promise<OnnxArray> {
  await using file = await OnnxFile.open(path);
  const weights = file.model.graph.initializers.get("w");
  return await file.readTensor(weights ?? expect.fail("the model has no w"));
}

describe("a location", () => {
  it.each([
    ["w.bin", "w.bin"],
    ["./w.bin", "w.bin"],
    ["a//b/./w.bin", "a/b/w.bin"],
    ["..w", "..w"],
    ["a b:c", "a b:c"],
  ])("%s is %s", (location, expected) => {
    expect(normalLocation(location)).toBe(expected);
  });

  it.each([
    "",
    ".",
    "./",
    "/etc/passwd",
    "//host/share",
    "..",
    "../w.bin",
    "a/../../w.bin",
    "a/..",
    "a/",
    "a/.",
    "..\\w.bin",
    "\\\\host\\share",
    "C:\\w.bin",
    "c:w.bin",
    "w.bin\0.txt",
  ])("%j is refused when the model is opened", async (location) => {
    expect(normalLocation(location)).toBeNull();
    const path = join(await folder(), "m.onnx");
    await writeFile(path, modelWith({ location }));
    await expectError(() => OnnxFile.open(path), "ERR_FM_BAD_FILE", path, "initializer[0]");
  });
});

describe("external data", () => {
  it("are read from the model's folder and below it", async () => {
    for (const location of ["w.bin", "./w.bin", "sub/w.bin"]) {
      const dir = await folder();
      const path = await write(join(dir, "m.onnx"), location, join(dir, location));
      expect((await readWeights(path)).data).toEqual(kValues);
    }
  });

  it("need no length or offset", async () => {
    const dir = await folder();
    const path = await write(join(dir, "m.onnx"), "w.bin", join(dir, "w.bin"));
    await writeFile(path, modelWith({ location: "w.bin" }));
    expect((await readWeights(path)).data).toEqual(Float32Array.of(0, 1, 2, 3));
  });

  it.each([
    ["no location", { offset: "0" }, "a location"],
    ["a wrong length", { location: "w.bin", length: "15" }, "16 bytes"],
    ["a negative offset", { location: "w.bin", offset: "-4" }, "offset"],
    ["an offset that is no number", { location: "w.bin", offset: "0x10" }, "offset"],
    ["an offset beyond 2^53", { location: "w.bin", offset: "9999999999999999" }, "offset"],
  ])("are refused with %s", async (_, entries, word) => {
    const path = join(await folder(), "m.onnx");
    await writeFile(path, modelWith(entries));
    await expectError(() => OnnxFile.open(path), "ERR_FM_BAD_FILE", path, word);
  });

  it("are refused beside data in the model", async () => {
    const path = join(await folder(), "m.onnx");
    const both = [raw(kValues), external({ location: "w.bin" })];
    await writeFile(path, adding(tensor("w", "float", [1, 4], ...both)));
    await expectError(() => OnnxFile.open(path), "ERR_FM_BAD_FILE", path, "in the model too");
  });

  it("must be as long as the model says", async () => {
    const dir = await folder();
    const path = await write(join(dir, "m.onnx"), "w.bin");
    for (const size of [0, 4, 19]) {
      await writeFile(join(dir, "w.bin"), new Uint8Array(size));
      await expectError(() => readWeights(path), "ERR_FM_BAD_FILE", '"w"', `${size} bytes`);
    }
  });

  it("may be more than memory holds", async () => {
    const path = join(await folder(), "m.onnx");
    const away = external({ location: "w.bin" });
    await writeFile(path, adding(tensor("w", "float", [2 ** 38], away)));
    await writeFile(join(dirname(path), "w.bin"), "");
    // A sparse file, which takes no room on disk.
    await truncate(join(dirname(path), "w.bin"), 2 ** 40);
    await expectError(() => readWeights(path), "ERR_FM_OUT_OF_MEMORY", path, '"w"');
  });

  it("must be there, and be a regular file", async () => {
    const dir = await folder();
    const path = await write(join(dir, "m.onnx"), "w.bin");
    await expectError(() => readWeights(path), "ERR_FM_IO", "w.bin", "ENOENT");
    await mkdir(join(dir, "w.bin"));
    await expectError(() => readWeights(path), "ERR_FM_IO", "w.bin", "regular file");
  });

  it("must not be the model itself", async () => {
    const path = await write(join(await folder(), "m.onnx"), "m.onnx");
    await expectError(() => readWeights(path), "ERR_FM_BAD_FILE", path, "own file");
  });
});

describe("links of external data", () => {
  it("may stay in the model's folder", async () => {
    const dir = await folder();
    const path = await write(join(dir, "m.onnx"), "w.bin", join(dir, "real", "w"));
    await symlink(join("real", "w"), join(dir, "w.bin"));
    expect((await readWeights(path)).data).toEqual(kValues);
  });

  it("must not leave it, as files or as folders", async () => {
    const outside = join(await folder(), "w.bin");
    const dir = await folder();
    const path = await write(join(dir, "m.onnx"), "w.bin", outside);
    await symlink(outside, join(dir, "w.bin"));
    await expectError(() => readWeights(path), "ERR_FM_BAD_FILE", path, "leads out");
    const nested = await write(join(dir, "n.onnx"), "sub/w.bin");
    await symlink(dirname(outside), join(dir, "sub"));
    await expectError(() => readWeights(nested), "ERR_FM_BAD_FILE", nested, "leads out");
  });

  it("must not lead into a folder whose name only begins like the model's", async () => {
    const dir = await folder();
    const path = await write(join(dir, "m.onnx"), "w.bin", join(`${dir}-twin`, "w.bin"));
    await symlink(join(`${dir}-twin`, "w.bin"), join(dir, "w.bin"));
    await expectError(() => readWeights(path), "ERR_FM_BAD_FILE", path, "leads out");
  });

  it("do not matter on the way to the model's folder", async () => {
    const dir = await folder();
    await write(join(dir, "real", "m.onnx"), "w.bin", join(dir, "real", "w.bin"));
    await symlink(join(dir, "real"), join(dir, "link"));
    expect((await readWeights(join(dir, "link", "m.onnx"))).data).toEqual(kValues);
  });
});

/** A cache as Hugging Face's clients lay it out, with the model in a folder of its snapshot. */
async function cache(): Promise<{ hub: string; snapshot: string; model: string }> {
  const hub = await folder();
  const repository = join(hub, "models--someone--net");
  const snapshot = join(repository, "snapshots", "0123abc", "onnx");
  await mkdir(snapshot, { recursive: true });
  await write(join(repository, "blobs", "aaa"), "m.onnx_data", join(repository, "blobs", "bbb"));
  const model = join(snapshot, "m.onnx");
  await symlink(join("..", "..", "..", "blobs", "aaa"), model);
  return { hub, snapshot, model };
}

describe("a Hugging Face cache", () => {
  it("has its data among its own blobs", async () => {
    const { snapshot, model } = await cache();
    await symlink(join("..", "..", "..", "blobs", "bbb"), join(snapshot, "m.onnx_data"));
    expect((await readWeights(model)).data).toEqual(kValues);
  });

  it("does not have them among another's, or elsewhere in itself", async () => {
    const { hub, snapshot, model } = await cache();
    const other = join(hub, "models--other--net", "blobs", "bbb");
    const elsewhere = join(hub, "models--someone--net", "refs", "main");
    const below = join(hub, "models--someone--net", "blobs", "deep", "bbb");
    await write(join(hub, "unused.onnx"), "w.bin", other, elsewhere, below);
    for (const [index, target] of [other, elsewhere, below].entries()) {
      const name = `data-${index}`;
      await symlink(target, join(snapshot, name));
      const path = join(hub, "models--someone--net", "blobs", `model-${index}`);
      await write(path, name);
      await symlink(path, join(snapshot, `${index}.onnx`));
      const linked = join(snapshot, `${index}.onnx`);
      await expectError(() => readWeights(linked), "ERR_FM_BAD_FILE", "leads out");
    }
    await expectError(() => readWeights(model), "ERR_FM_IO", "m.onnx_data");
  });

  it("gives no way into its blobs to a model that is no link from it", async () => {
    const { snapshot } = await cache();
    const plain = await write(join(snapshot, "plain.onnx"), "data");
    await symlink(join("..", "..", "..", "blobs", "bbb"), join(snapshot, "data"));
    await expectError(() => readWeights(plain), "ERR_FM_BAD_FILE", "leads out");
  });
});
