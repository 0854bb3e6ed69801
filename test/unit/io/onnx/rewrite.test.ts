import { link, mkdir, readdir, readFile, readlink, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { findTensor } from "../../../../src/io/onnx/find-tensor.js";
import type { OnnxData, OnnxDType } from "../../../../src/io/onnx/model.js";
import { OnnxFile } from "../../../../src/io/onnx/onnx-file.js";
import { rewriteOnnx } from "../../../../src/io/onnx/rewrite.js";
import { expectError, temporaryFolder } from "../support.js";
import {
  ATTRIBUTE,
  adding,
  bytesOf,
  concat,
  external,
  modelOf,
  node,
  packedDoubles,
  packedFloats,
  packedInts,
  raw,
  singleDoubles,
  singleFloats,
  singleInts,
  tensor,
} from "./writer.js";

const at = temporaryFolder();
let number = 0;

async function folder(): Promise<string> {
  number += 1;
  const path = at(`folder-${number}`);
  await mkdir(path);
  return path;
}

async function fileOf(data: Uint8Array): Promise<string> {
  const path = join(await folder(), "m.onnx");
  await writeFile(path, data);
  return path;
}

async function rewrite(
  from: string,
  to: string,
  changes: Readonly<Record<string, readonly number[]>>,
): Promise<void> {
  await using source = await OnnxFile.open(from);
  const values = Object.entries(changes).map(
    ([name, list]) => [name, Float32Array.from(list)] as const,
  );
  await rewriteOnnx(source, to, new Map(values));
}

async function read(path: string, name: string): Promise<OnnxData> {
  await using file = await OnnxFile.open(path);
  const found = findTensor(file.model, name) ?? expect.fail(`no ${name} in ${path}`);
  return (await file.readTensor(found)).data;
}

/** Bytes that differ between two files of one length. */
function differing(a: Uint8Array, b: Uint8Array): number[] {
  expect(a.length).toBe(b.length);
  return [...a.keys()].filter((index) => a[index] !== b[index]);
}

const kHalfBits = [0x3c00, 0xc000, 0xb800, 0x7bff];
const kBrainBits = [0x3f80, 0xc000, 0x4049, 0x0001];

describe("a rewritten tensor", () => {
  const stored: [OnnxDType, string, Uint8Array][] = [
    ["float", "raw", raw(Float32Array.of(1, 2, 3, 4))],
    ["float", "packed", packedFloats([1, 2, 3, 4])],
    ["float", "one by one", singleFloats([1, 2, 3, 4])],
    ["float", "mixed", concat(singleFloats([1]), packedFloats([2, 3]), singleFloats([4]))],
    ["double", "raw", raw(Float64Array.of(0.1, 2, 3, 4))],
    ["double", "packed", packedDoubles([0.1, 2, 3, 4])],
    ["double", "one by one", singleDoubles([0.1, 2, 3, 4])],
    ["float16", "raw", raw(Uint16Array.from(kHalfBits))],
    ["float16", "packed", packedInts(5, kHalfBits)],
    ["float16", "one by one", singleInts(5, kHalfBits)],
    ["bfloat16", "raw", raw(Uint16Array.from(kBrainBits))],
    ["bfloat16", "packed", packedInts(5, [0x3f80, 0xc000, 0x4049, 0x4040])],
  ];
  it.each(stored)(
    "of type %s, %s, has the new values and no other byte changes",
    async (dtype, _, data) => {
      const other = tensor("other", "float", [2], raw(Float32Array.of(7, 8)));
      const weight = tensor("w", dtype, [1, 4], data);
      const add = node("Add", ["x", "w"], ["y"]);
      const path = await fileOf(modelOf({ nodes: [add], initializers: [weight, other] }));
      const before = await readFile(path);
      const out = join(await folder(), "out.onnx");
      const kept = Array.from(await read(path, "w"), Number);
      await rewrite(path, out, { w: [kept[0] as number, 0, -1.5, kept[3] as number] });
      const after = await readFile(out);
      expect(Array.from(await read(out, "w"), Number)).toEqual([kept[0], 0, -1.5, kept[3]]);
      const dataAt = before.indexOf(data);
      const changed = differing(before, after);
      expect(changed.length).toBeGreaterThan(0);
      expect(changed.every((byte) => byte >= dataAt && byte < dataAt + data.length)).toBe(true);
      expect(await readFile(path)).toEqual(before);
      await rewrite(out, out, { w: kept });
      // The first value is the stored one as f32: an f64 beside it keeps its low digits.
      expect(await readFile(out)).toEqual(before);
    },
  );

  it("may be that of a Constant node, by the name of its output", async () => {
    const value = tensor("", "float", [4], raw(Float32Array.of(1, 2, 3, 4)));
    const constant = node("Constant", [], ["c"], ATTRIBUTE.tensor("value", value));
    const path = await fileOf(modelOf({ nodes: [constant, node("Add", ["x", "c"], ["y"])] }));
    await rewrite(path, path, { c: [5, 6, 7, 8] });
    expect(await read(path, "c")).toEqual(Float32Array.of(5, 6, 7, 8));
  });

  it("of any values leaves every byte outside it", async () => {
    const dir = await folder();
    const values = fc.array(fc.float({ noNaN: true, noDefaultInfinity: true }), {
      minLength: 1,
      maxLength: 40,
    });
    await fc.assert(
      fc.asyncProperty(values, fc.boolean(), async (list, packed) => {
        const zeros = list.map(() => 0);
        const data = packed ? packedFloats(zeros) : singleFloats(zeros);
        const expected = packed ? packedFloats(list) : singleFloats(list);
        const build = (field: Uint8Array) => adding(tensor("w", "float", [list.length], field));
        const path = join(dir, "m.onnx");
        await writeFile(path, build(data));
        await rewrite(path, path, { w: list });
        expect(new Uint8Array(await readFile(path))).toEqual(build(expected));
      }),
      { numRuns: 60 },
    );
  });

  it("without changes is the same file", async () => {
    const path = await fileOf(adding(tensor("w", "float", [1], packedFloats([1]))));
    const out = join(await folder(), "out.onnx");
    await rewrite(path, out, {});
    expect(await readFile(out)).toEqual(await readFile(path));
  });
});

describe("a rewriting that is refused", () => {
  const refused = async (
    data: Uint8Array,
    changes: Record<string, readonly number[]>,
    code: Parameters<typeof expectError>[1],
    ...words: string[]
  ) => {
    const path = await fileOf(data);
    const dir = await folder();
    await expectError(() => rewrite(path, join(dir, "out.onnx"), changes), code, path, ...words);
    expect(await readdir(dir)).toEqual([]);
  };
  const half = (values: readonly number[]) =>
    tensor("w", "float16", [values.length], packedInts(5, values));
  const plain = adding(tensor("w", "float", [1], packedFloats([1])));

  it("names its reason and writes nothing", async () => {
    await refused(plain, { v: [1] }, "ERR_FM_ARGUMENT", '"v"');
    await refused(plain, { y: [1] }, "ERR_FM_ARGUMENT", '"y"');
    await refused(plain, { w: [1, 2] }, "ERR_FM_SHAPE", "1 elements", "2");
    await refused(plain, { w: [Number.NaN] }, "ERR_FM_NON_FINITE", '"w"');
    const ints = adding(tensor("w", "int64", [1], packedInts(7, [1])));
    await refused(ints, { w: [1] }, "ERR_FM_DTYPE", "int64");
    await refused(adding(half([0x3c00])), { w: [65520] }, "ERR_FM_NON_FINITE", "float16's range");
    const brain = adding(tensor("w", "bfloat16", [1], packedInts(5, [0x3f80])));
    await refused(brain, { w: [3.4e38] }, "ERR_FM_NON_FINITE", "bfloat16's range");
  });

  it("is that of a half in fewer bytes than it needs", async () => {
    await refused(
      adding(half([0x3c00, 0])),
      { w: [0, 1] },
      "ERR_FM_UNSUPPORTED",
      "element 1",
      "raw_data",
    );
  });

  it("has no folder to go to", async () => {
    const path = await fileOf(plain);
    const out = join(await folder(), "none", "out.onnx");
    await expectError(() => rewrite(path, out, {}), "ERR_FM_IO", out, "ENOENT");
  });
});

/** A model with w and v in one external file, u in another in a folder, and bytes around them. */
async function externalModel(dir: string): Promise<string> {
  const away = (name: string, location: string, offset: number) =>
    tensor(name, "float", [1, 4], external({ location, offset: `${offset}`, length: "16" }));
  const initializers = [
    away("w", "all.bin", 4),
    away("v", "all.bin", 20),
    away("u", "sub/u.bin", 0),
  ];
  const nodes = [node("Sum", ["x", "w", "v", "u"], ["y"])];
  await mkdir(join(dir, "sub"), { recursive: true });
  await writeFile(join(dir, "m.onnx"), modelOf({ nodes, initializers }));
  await writeFile(join(dir, "all.bin"), bytesOf(Float32Array.from({ length: 11 }, (_, i) => i)));
  await writeFile(join(dir, "sub", "u.bin"), bytesOf(Float32Array.of(7, 7, 7, 7)));
  return join(dir, "m.onnx");
}

describe("external data of a rewritten model", () => {
  it("go along with it, with the changed tensors' bytes replaced", async () => {
    const [dir, target] = [await folder(), await folder()];
    const path = await externalModel(dir);
    const out = join(target, "out.onnx");
    const before = await readFile(join(dir, "all.bin"));
    await rewrite(path, out, { v: [-1, -2, -3, -4] });
    expect((await readdir(target, { recursive: true })).sort()).toEqual([
      "all.bin",
      "out.onnx",
      "sub",
      join("sub", "u.bin"),
    ]);
    const expected = Buffer.concat([
      before.subarray(0, 20),
      bytesOf(Float32Array.of(-1, -2, -3, -4)),
      before.subarray(36),
    ]);
    expect(await readFile(join(target, "all.bin"))).toEqual(expected);
    expect(await readFile(join(dir, "all.bin"))).toEqual(before);
    expect(await readFile(out)).toEqual(await readFile(path));
    expect(await read(out, "u")).toEqual(Float32Array.of(7, 7, 7, 7));
    // Once more, over the model that was just written.
    await rewrite(path, out, { v: [5, 6, 7, 8] });
    expect(await read(out, "v")).toEqual(Float32Array.of(5, 6, 7, 8));
  });

  it("change in place with the source itself, where they changed", async () => {
    const dir = await folder();
    const path = await externalModel(dir);
    await rewrite(path, path, { w: [9, 9, 9, 9], u: [0, 0, 0, 0] });
    expect(await read(path, "w")).toEqual(Float32Array.of(9, 9, 9, 9));
    expect(await read(path, "v")).toEqual(Float32Array.of(5, 6, 7, 8));
    expect(await read(path, "u")).toEqual(Float32Array.of(0, 0, 0, 0));
  });

  it("are not shared with another model in the source's folder", async () => {
    const dir = await folder();
    const path = await externalModel(dir);
    const out = join(dir, "out.onnx");
    const before = await readFile(join(dir, "all.bin"));
    await expectError(() => rewrite(path, out, { w: [1, 1, 1, 1] }), "ERR_FM_ARGUMENT", out);
    expect(await readFile(join(dir, "all.bin"))).toEqual(before);
    await rewrite(path, out, {});
    expect(await readFile(out)).toEqual(await readFile(path));
  });

  it("never replace files that are not the replaced model's", async () => {
    const [dir, target] = [await folder(), await folder()];
    const path = await externalModel(dir);
    await writeFile(join(target, "all.bin"), "precious");
    const out = join(target, "out.onnx");
    await expectError(() => rewrite(path, out, {}), "ERR_FM_ARGUMENT", "all.bin");
    await writeFile(out, adding(tensor("w", "float", [1], packedFloats([1]))));
    await expectError(() => rewrite(path, out, {}), "ERR_FM_ARGUMENT", "all.bin");
    const named = join(await folder(), "all.bin");
    await expectError(() => rewrite(path, named, {}), "ERR_FM_ARGUMENT", "all.bin");
    const data = join(dir, "all.bin");
    const before = await readFile(data);
    await expectError(() => rewrite(path, data, {}), "ERR_FM_ARGUMENT", "all.bin");
    expect(await readFile(data)).toEqual(before);
    expect(await readFile(join(target, "all.bin"), "utf8")).toBe("precious");
    expect(await readdir(target)).toEqual(["all.bin", "out.onnx"]);
  });

  it("are not written through a link to a folder elsewhere", async () => {
    const [dir, target, elsewhere] = [await folder(), await folder(), await folder()];
    const path = await externalModel(dir);
    await symlink(elsewhere, join(target, "sub"));
    const out = join(target, "out.onnx");
    await expectError(() => rewrite(path, out, {}), "ERR_FM_ARGUMENT", "without links");
    expect(await readdir(elsewhere)).toEqual([]);
  });

  it("are written as files where they were links", async () => {
    const dir = await folder();
    const path = await externalModel(dir);
    const real = join(dir, "real.bin");
    await writeFile(real, await readFile(join(dir, "all.bin")));
    const linked = join(await folder(), "m.onnx");
    await writeFile(linked, await readFile(path));
    const data = join(linked, "..", "all.bin");
    await mkdir(join(linked, "..", "sub"));
    await writeFile(join(linked, "..", "kept.bin"), await readFile(real));
    await writeFile(join(linked, "..", "sub", "u.bin"), new Uint8Array(16));
    await symlink("kept.bin", data);
    await rewrite(linked, linked, { w: [9, 9, 9, 9] });
    await expect(readlink(data)).rejects.toThrow("EINVAL");
    expect(await readFile(join(linked, "..", "kept.bin"))).toEqual(await readFile(real));
    expect(await read(linked, "w")).toEqual(Float32Array.of(9, 9, 9, 9));
  });

  it("do not change under another name of the same file", async () => {
    const dir = await folder();
    const path = await externalModel(dir);
    const before = await readFile(join(dir, "all.bin"));
    await link(join(dir, "all.bin"), join(dir, "hard"));
    await link(path, join(dir, "hard.onnx"));
    await rewrite(path, path, { w: [9, 9, 9, 9] });
    expect(await readFile(join(dir, "hard"))).toEqual(before);
    expect(await read(path, "w")).toEqual(Float32Array.of(9, 9, 9, 9));
  });

  it("must be the changed tensor's alone", async () => {
    const dir = await folder();
    const away = (name: string, offset: number) =>
      tensor(name, "float", [1, 4], external({ location: "all.bin", offset: `${offset}` }));
    const nodes = [node("Sum", ["x", "w", "v", "u"], ["y"])];
    const initializers = [away("w", 0), away("v", 12), away("u", 28)];
    const path = join(dir, "m.onnx");
    await writeFile(path, modelOf({ nodes, initializers }));
    await writeFile(join(dir, "all.bin"), new Uint8Array(44));
    const zeros = [1, 0, 0, 0];
    await expectError(() => rewrite(path, path, { w: zeros }), "ERR_FM_UNSUPPORTED", '"v"');
    await expectError(() => rewrite(path, path, { v: zeros }), "ERR_FM_UNSUPPORTED", '"w"');
    await rewrite(path, path, { u: zeros });
    expect(await read(path, "u")).toEqual(Float32Array.from(zeros));
  });

  it("that are missing or short stop everything before it begins", async () => {
    const [dir, target] = [await folder(), await folder()];
    const path = await externalModel(dir);
    await writeFile(join(dir, "sub", "u.bin"), new Uint8Array(15));
    const out = join(target, "out.onnx");
    await expectError(() => rewrite(path, out, { w: [1, 1, 1, 1] }), "ERR_FM_BAD_FILE", "15 bytes");
    expect(await readdir(target)).toEqual([]);
  });
});

describe("what another reader makes of a rewritten model", () => {
  it("is the new values: onnxruntime, for every way of storing floats", async () => {
    const { InferenceSession, Tensor } = await import("onnxruntime-node");
    const cases = [
      packedFloats([1, 2, 3, 4]),
      singleFloats([1, 2, 3, 4]),
      raw(Float32Array.of(1, 2, 3, 4)),
    ];
    for (const data of cases) {
      const path = await fileOf(adding(tensor("w", "float", [1, 4], data)));
      await rewrite(path, path, { w: [0, -5, 3, 0.25] });
      const session = await InferenceSession.create(path);
      const x = new Tensor("float32", Float32Array.of(10, 20, 30, 40), [1, 4]);
      const { y } = await session.run({ x });
      expect(y?.data).toEqual(Float32Array.of(10, 15, 33, 40.25));
    }
  });

  it("is the padded halves too, cast to floats", async () => {
    const { InferenceSession, Tensor } = await import("onnxruntime-node");
    const cast = node("Cast", ["w"], ["f"], ATTRIBUTE.int("to", 1));
    const nodes = [cast, node("Add", ["x", "f"], ["y"])];
    const weight = tensor("w", "float16", [1, 4], packedInts(5, kHalfBits));
    const path = await fileOf(modelOf({ nodes, initializers: [weight] }));
    await rewrite(path, path, { w: [0, 1.5, 0, -2] });
    const session = await InferenceSession.create(path);
    const { y } = await session.run({ x: new Tensor("float32", new Float32Array(4), [1, 4]) });
    expect(y?.data).toEqual(Float32Array.of(0, 1.5, 0, -2));
  });
});
