import { existsSync } from "node:fs";
import { copyFile, readFile, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import {
  rewriteSafetensors,
  SafetensorsFile,
  type TensorSource,
  writeSafetensors,
} from "../../../src/io/safetensors.js";
import {
  DATA,
  expectError,
  safetensorsBytes,
  temporaryFilesIn,
  temporaryFolder,
  writeBytes,
} from "./support.js";

const at = temporaryFolder();
let fileNumber = 0;

async function fileOf(header: string | Uint8Array, dataBytes = 0): Promise<string> {
  fileNumber += 1;
  return writeBytes(at(`file-${fileNumber}.safetensors`), safetensorsBytes(header, dataBytes));
}

function entry(dtype: string, shape: string, begin: number | string, end: number | string): string {
  return `{"dtype":"${dtype}","shape":${shape},"data_offsets":[${begin},${end}]}`;
}

function floats(name: string, values: readonly number[]): TensorSource {
  const data = new Uint8Array(new Float32Array(values).buffer);
  return { name, dtype: "F32", shape: [values.length], data };
}

const kPair = `{"a":${entry("F32", "[1]", 0, 4)},"b":${entry("F32", "[1]", 4, 8)}}`;

describe("a file that is no safetensors file", () => {
  const tensor = (info: string): string => `{"t":${info}}`;
  it.each<[string, string, number, string[]]>([
    ["is no JSON", "{", 0, ["the header", "no string"]],
    ["has an empty header", "", 0, ["the header"]],
    ["has an array as header", "[]", 0, ["the header", "no {"]],
    ["begins with a space", " {}", 0, ["the header", "no {"]],
    ["has a byte order mark", "\ufeff{}", 0, ["the header", "no {"]],
    ["has text after the header", "{} x", 0, ["unexpected text"]],
    ["has data that no tensor owns", "{}", 4, ["4 bytes of data"]],
    [
      "repeats a tensor",
      `{"a":${entry("F32", "[1]", 0, 4)},"a":${entry("F32", "[1]", 0, 4)}}`,
      4,
      ['"a" appears twice'],
    ],
    [
      "repeats a tensor by an escape",
      `{"a":${entry("U8", "[0]", 0, 0)},"\\u0061":${entry("U8", "[0]", 0, 0)}}`,
      0,
      ['"a" appears twice'],
    ],
    [
      "repeats a key",
      tensor(`{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}`),
      0,
      ['"dtype" appears twice'],
    ],
    ["repeats __metadata__", `{"__metadata__":{},"__metadata__":{}}`, 0, ["__metadata__", "twice"]],
    ["nests deeply", tensor(`{"dtype":"U8","shape":[[0]],"data_offsets":[0,0]}`), 0, ["nesting"]],
    [
      "has an unknown key",
      tensor(`{"dtype":"U8","shape":[0],"data_offsets":[0,0],"x":1}`),
      0,
      ['tensor "t"', '"x"'],
    ],
    ["has an unknown dtype", tensor(entry("F128", "[0]", 0, 0)), 0, ['tensor "t"', "F128", "BF16"]],
    [
      "has a dtype that is a property of every object",
      tensor(entry("toString", "[0]", 0, 0)),
      0,
      ["toString"],
    ],
    ["has no dtype", tensor(`{"shape":[0],"data_offsets":[0,0]}`), 0, ["dtype", "nothing"]],
    ["has no shape", tensor(`{"dtype":"U8","data_offsets":[0,0]}`), 0, ["shape", "nothing"]],
    ["has no offsets", tensor(`{"dtype":"U8","shape":[0]}`), 0, ["data_offsets", "nothing"]],
    ["has a tensor that is no object", `{"t":3}`, 0, ['tensor "t"', "3"]],
    ["has a negative size", tensor(entry("U8", "[-1]", 0, 0)), 0, ["shape", "[-1]"]],
    ["has a size of −0", tensor(entry("U8", "[-0]", 0, 0)), 0, ["shape"]],
    ["has a fractional size", tensor(entry("U8", "[1.5]", 0, 1)), 1, ["shape", "1.5"]],
    ["has a size as text", tensor(entry("U8", '["1"]', 0, 1)), 1, ["shape"]],
    [
      "has a size beyond 2^53",
      tensor(entry("U8", "[9007199254740993]", 0, 1)),
      1,
      ["out of range"],
    ],
    [
      "has a shape whose product overflows",
      tensor(entry("U8", "[4294967296,4294967296]", 0, 0)),
      0,
      ["data", "representable"],
    ],
    [
      "hides an overflow behind a zero",
      tensor(entry("U8", "[4294967296,4294967296,0]", 0, 0)),
      0,
      ["representable"],
    ],
    ["has half a byte", tensor(entry("F4", "[3]", 0, 2)), 2, ["whole"]],
    [
      "has three offsets",
      tensor(`{"dtype":"U8","shape":[0],"data_offsets":[0,0,0]}`),
      0,
      ["data_offsets"],
    ],
    ["has descending offsets", tensor(entry("U8", "[1]", 1, 0)), 1, ["data_offsets", "ascending"]],
    [
      "has a tensor of the wrong length",
      tensor(entry("F32", "[2]", 0, 4)),
      4,
      ["8 bytes", "4 bytes"],
    ],
    ["begins with a hole", tensor(entry("U8", "[1]", 1, 2)), 2, ['tensor "t"', "hole"]],
    [
      "has a hole",
      `{"a":${entry("U8", "[1]", 0, 1)},"b":${entry("U8", "[1]", 2, 3)}}`,
      3,
      ['tensor "b"', "hole"],
    ],
    [
      "has an overlap",
      `{"a":${entry("U8", "[2]", 0, 2)},"b":${entry("U8", "[2]", 1, 3)}}`,
      3,
      ['tensor "b"', "overlap"],
    ],
    ["is truncated", kPair, 7, ["end of the last tensor", "7 bytes", "8"]],
    ["is too long", kPair, 9, ["end of the last tensor", "9 bytes", "8"]],
    [
      "claims half a petabyte",
      tensor(entry("U8", "[562949953421312]", 0, "562949953421312")),
      0,
      ["0 bytes of data"],
    ],
    ["has metadata that are no object", `{"__metadata__":[]}`, 0, ["__metadata__", "[]"]],
    [
      "has metadata that are no strings",
      `{"__metadata__":{"k":1}}`,
      0,
      ["__metadata__", '"k"', "1"],
    ],
  ])("%s", async (_what, header, dataBytes, words) => {
    const path = await fileOf(header, dataBytes);
    await expectError(() => SafetensorsFile.open(path), "ERR_FM_BAD_FILE", path, ...words);
  });

  it("has a header that is no UTF-8", async () => {
    const path = await fileOf(new Uint8Array([0x7b, 0xff, 0x7d]));
    await expectError(() => SafetensorsFile.open(path), "ERR_FM_BAD_FILE", path, "no UTF-8");
  });

  it.each<[string, bigint, number]>([
    ["2^63", 2n ** 63n, 0],
    ["2^64 - 1", 2n ** 64n - 1n, 0],
    ["one byte more than there is", 3n, 2],
    ["all but the length field", 1n, 0],
  ])("claims a header of %s bytes, without that memory being taken", async (_what, claim, rest) => {
    const bytes = new Uint8Array(8 + rest);
    new DataView(bytes.buffer).setBigUint64(0, claim, true);
    const path = await writeBytes(at("claim"), bytes);
    const before = process.memoryUsage().arrayBuffers;
    await expectError(
      () => SafetensorsFile.open(path),
      "ERR_FM_BAD_FILE",
      path,
      `${claim}`,
      `${rest} bytes`,
    );
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(1_000_000);
  });

  it("claims a header above the format's limit in a file that is long enough", async () => {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, 100_000_001n, true);
    const path = await writeBytes(at("sparse"), bytes);
    await truncate(path, 200_000_000);
    await expectError(
      () => SafetensorsFile.open(path),
      "ERR_FM_BAD_FILE",
      path,
      "100000000",
      "100000001",
    );
  });

  it.each([0, 1, 7])("is %d bytes long", async (length) => {
    const path = await writeBytes(at("short"), new Uint8Array(length));
    await expectError(() => SafetensorsFile.open(path), "ERR_FM_BAD_FILE", path, `${length} bytes`);
  });

  it("is not there", async () => {
    await expectError(() => SafetensorsFile.open(at("none")), "ERR_FM_IO", at("none"), "ENOENT");
  });
});

describe("SafetensorsFile", () => {
  it("reads what the format allows: no tensors, empty tensors, scalars, padding, any header order", async () => {
    const empty = await SafetensorsFile.open(await fileOf("{}      "));
    expect(empty.tensors.size).toBe(0);
    await empty.close();
    const header = `{"b":${entry("F32", "[]", 4, 8)},"z":${entry("U8", "[0,7]", 4, 4)},"__proto__":${entry("F32", "[1,1]", 0, 4)}}`;
    await using file = await SafetensorsFile.open(await fileOf(header, 8));
    expect([...file.tensors.keys()]).toEqual(["__proto__", "z", "b"]);
    expect(file.info("b")).toEqual({ name: "b", dtype: "F32", shape: [], begin: 4, end: 8 });
    expect([...(await file.readFloat32("b"))]).toEqual([0]);
    expect((await file.readBytes("z")).length).toBe(0);
    expect(file.metadata.size).toBe(0);
  });

  it("carries every dtype of the format as bytes", async () => {
    const names = [
      "F64",
      "F32",
      "F16",
      "BF16",
      "I64",
      "I32",
      "I16",
      "I8",
      "U64",
      "U32",
      "U16",
      "U8",
      "BOOL",
      "C64",
    ];
    const small = [
      "F8_E5M2",
      "F8_E4M3",
      "F8_E8M0",
      "F8_E4M3FNUZ",
      "F8_E5M2FNUZ",
      "F6_E2M3",
      "F6_E3M2",
      "F4",
    ];
    const bits = [64, 32, 16, 16, 64, 32, 16, 8, 64, 32, 16, 8, 8, 64, 8, 8, 8, 8, 8, 6, 6, 4];
    let begin = 0;
    const entries = [...names, ...small].map((name, i) => {
      const end = begin + bits[i]!;
      const text = `"${name}":${entry(name, "[2,4]", begin, end)}`;
      begin = end;
      return text;
    });
    await using file = await SafetensorsFile.open(await fileOf(`{${entries.join(",")}}`, begin));
    expect(file.tensors.size).toBe(22);
    expect((await file.readBytes("F6_E2M3")).length).toBe(6);
    await expectError(
      () => file.readFloat32("F8_E5M2"),
      "ERR_FM_DTYPE",
      "F8_E5M2",
      file.path,
      "F32",
    );
  });

  it("refuses an unknown tensor, reading after close, and a file cut short behind its back", async () => {
    const path = await fileOf(kPair, 8);
    const file = await SafetensorsFile.open(path);
    await expectError(() => file.readBytes("c"), "ERR_FM_ARGUMENT", '"c"', path);
    await truncate(path, (await readFile(path)).length - 2);
    await expectError(() => file.readFloat32("b"), "ERR_FM_BAD_FILE", path);
    await file.close();
    await file.close();
    await expectError(() => file.readBytes("a"), "ERR_FM_DISPOSED", path);
  });

  it("refuses to read a finite F64 that f32 cannot hold", async () => {
    const data = new Uint8Array(new Float64Array([1, 1e39]).buffer);
    await writeSafetensors(at("f64"), [{ name: "w", dtype: "F64", shape: [2], data }]);
    await using file = await SafetensorsFile.open(at("f64"));
    await expectError(
      () => file.readFloat32("w"),
      "ERR_FM_NON_FINITE",
      '"w"',
      "element 1",
      "1e+39",
    );
  });
});

describe("writeSafetensors", () => {
  it("keeps order, metadata and values, pads the header to 8 and asks for one tensor at a time", async () => {
    const asked: string[] = [];
    const lazy = (name: string, values: readonly number[]): TensorSource => {
      const source = floats(name, values);
      const data = async (): Promise<Uint8Array> => {
        asked.push(name);
        return source.data as Uint8Array;
      };
      return { ...source, data };
    };
    const metadata = { format: "pt", "1": "ü" };
    await writeSafetensors(
      at("written"),
      [lazy("z", [1, 2]), lazy("10", [3]), floats("2", [])],
      metadata,
    );
    await using file = await SafetensorsFile.open(at("written"));
    expect(asked).toEqual(["z", "10"]);
    expect([...file.tensors.keys()]).toEqual(["z", "10", "2"]);
    expect(Object.fromEntries(file.metadata)).toEqual(metadata);
    expect([...(await file.readFloat32("z"))]).toEqual([1, 2]);
    expect(file.dataStart % 8).toBe(0);
  });

  const u8 = (name: string, shape: number[], bytes: number): TensorSource => {
    return { name, dtype: "U8", shape, data: new Uint8Array(bytes) };
  };
  it.each<[string, TensorSource[], string[]]>([
    ["a repeated name", [u8("a", [], 1), u8("a", [], 1)], ['"a" twice']],
    ["the reserved name", [u8("__metadata__", [], 1)], ["__metadata__"]],
    ["half a character", [u8("\ud800", [], 1)], ["whole characters"]],
    ["too few bytes", [u8("a", [2], 1)], ['"a"', "2 bytes", "1 bytes"]],
    ["a bad size", [u8("a", [-1], 1)], ['"a"', "[-1]"]],
    ["an overflow", [u8("a", [2 ** 40, 2 ** 40], 1)], ['"a"']],
    ["an unknown dtype", [{ ...u8("a", [1], 1), dtype: "F128" as "U8" }], ["F128"]],
  ])("refuses %s and leaves nothing", async (_what, tensors, words) => {
    await writeFile(at("kept"), "old");
    await expectError(() => writeSafetensors(at("kept"), tensors), "ERR_FM_ARGUMENT", ...words);
    expect(await readFile(at("kept"), "utf8")).toBe("old");
    expect(await temporaryFilesIn(at("."))).toEqual([]);
  });

  it("refuses metadata that are no strings, and a header beyond the limit", async () => {
    const metadata = { k: 1 } as unknown as Record<string, string>;
    await expectError(() => writeSafetensors(at("m"), [], metadata), "ERR_FM_ARGUMENT", '"k"');
    const large = { k: "x".repeat(100_000_000) };
    await expectError(() => writeSafetensors(at("m"), [], large), "ERR_FM_ARGUMENT", "100000000");
  });

  it("passes on what a tensor's function throws", async () => {
    const failure = new Error("gone");
    const data = (): Promise<Uint8Array> => Promise.reject(failure);
    const tensors: TensorSource[] = [{ name: "a", dtype: "U8", shape: [1], data }];
    await expect(writeSafetensors(at("lazy"), tensors)).rejects.toBe(failure);
  });
});

describe("rewriteSafetensors", () => {
  it("changes the named tensors alone, to their own type, also over the source itself", async () => {
    const f64 = new Float64Array([0.1, 0.2]);
    const path = at("mixed");
    await writeSafetensors(
      path,
      [
        { name: "half", dtype: "F16", shape: [2], data: new Uint8Array([0, 0x3c, 0, 0x40]) },
        { name: "brain", dtype: "BF16", shape: [1], data: new Uint8Array([0x80, 0x3f]) },
        { name: "double", dtype: "F64", shape: [2], data: new Uint8Array(f64.buffer) },
        { name: "ids", dtype: "I64", shape: [1], data: new Uint8Array(8).fill(7) },
        floats("single", [1, 2, 3]),
      ],
      { format: "pt" },
    );
    const before = await readFile(path);
    await using file = await SafetensorsFile.open(path);
    const changed = new Map([
      ["half", new Float32Array([0, 2])],
      ["brain", new Float32Array([1 + 2 ** -8])],
      ["double", new Float32Array([0.1, 0])],
      ["single", new Float32Array([1, 0, 3])],
    ]);
    await rewriteSafetensors(file, path, changed);
    const expected = Buffer.from(before);
    const start = file.dataStart;
    expected.fill(0, start, start + 2);
    expected.fill(0, start + 6 + 8, start + 6 + 16);
    expected.fill(0, start + 30 + 4, start + 30 + 8);
    expect((await readFile(path)).equals(expected)).toBe(true);
    await using again = await SafetensorsFile.open(path);
    expect([...(await again.readFloat32("brain"))]).toEqual([1]);
    // The open source still reads the file that it was opened on.
    expect([...(await file.readFloat32("single"))]).toEqual([1, 2, 3]);
  });

  it("adds metadata and keeps everything else", async () => {
    await writeSafetensors(at("plain"), [floats("9", [1]), floats("1", [2])], {
      format: "pt",
      x: "1",
    });
    await using file = await SafetensorsFile.open(at("plain"));
    await rewriteSafetensors(file, at("tagged"), new Map(), { x: "2", note: "n" });
    await using tagged = await SafetensorsFile.open(at("tagged"));
    expect([...tagged.metadata]).toEqual([
      ["format", "pt"],
      ["x", "2"],
      ["note", "n"],
    ]);
    expect([...tagged.tensors]).toEqual([...file.tensors]);
    expect([...(await tagged.readFloat32("1"))]).toEqual([2]);
  });

  it.each<
    [
      string,
      string,
      number[],
      "ERR_FM_ARGUMENT" | "ERR_FM_DTYPE" | "ERR_FM_SHAPE" | "ERR_FM_NON_FINITE",
      string[],
    ]
  >([
    ["an unknown tensor", "none", [1], "ERR_FM_ARGUMENT", ['"none"']],
    ["a tensor of whole numbers", "ids", [1], "ERR_FM_DTYPE", ['"ids"', "I64"]],
    ["too few elements", "half", [1], "ERR_FM_SHAPE", ['"half"', "2 elements", "1"]],
    ["NaN", "half", [1, Number.NaN], "ERR_FM_NON_FINITE", ['"half"', "element 1", "NaN"]],
    [
      "infinity",
      "half",
      [Number.POSITIVE_INFINITY, 1],
      "ERR_FM_NON_FINITE",
      ["element 0", "Infinity"],
    ],
    ["a value beyond F16", "half", [1, 65520], "ERR_FM_NON_FINITE", ["element 1", "F16", "65520"]],
  ])("refuses %s and leaves the destination", async (_what, name, values, code, words) => {
    const source = at("strict");
    await writeSafetensors(source, [
      { name: "half", dtype: "F16", shape: [2], data: new Uint8Array(4) },
      { name: "ids", dtype: "I64", shape: [1], data: new Uint8Array(8) },
    ]);
    await writeFile(at("target"), "old");
    await using file = await SafetensorsFile.open(source);
    const changed = new Map([[name, new Float32Array(values)]]);
    await expectError(
      () => rewriteSafetensors(file, at("target"), changed),
      code,
      source,
      ...words,
    );
    expect(await readFile(at("target"), "utf8")).toBe("old");
    expect(await temporaryFilesIn(at("."))).toEqual([]);
  });

  it("streams a tensor that is larger than one piece", async () => {
    const values = Float32Array.from({ length: 3_000_001 }, (_, i) => i);
    const data = new Uint8Array(values.buffer);
    await writeSafetensors(at("large"), [
      { name: "w", dtype: "F32", shape: [values.length], data },
    ]);
    await using file = await SafetensorsFile.open(at("large"));
    await rewriteSafetensors(file, at("copy"), new Map());
    expect((await readFile(at("copy"))).equals(await readFile(at("large")))).toBe(true);
    const changed = values.slice();
    changed[3_000_000] = 0;
    changed[1_048_576] = -1;
    await rewriteSafetensors(file, at("copy"), new Map([["w", changed]]));
    await using copy = await SafetensorsFile.open(at("copy"));
    expect(
      Buffer.from((await copy.readFloat32("w")).buffer).equals(Buffer.from(changed.buffer)),
    ).toBe(true);
  });
});

const kResnet = join(DATA, "models/resnet20-12fca82f.safetensors");
const kReason = `no ${kResnet}: set FISHERMASK_DATA`;

describe("the real ResNet-20", () => {
  it("has 269,722 parameters and comes back byte for byte", async ({ skip }) => {
    skip(!existsSync(kResnet), kReason);
    await copyFile(kResnet, at("resnet"));
    await using file = await SafetensorsFile.open(at("resnet"));
    const all = new Map<string, Float32Array>();
    let trainable = 0;
    for (const { name, dtype } of file.tensors.values()) {
      if (dtype === "F32") {
        all.set(name, await file.readFloat32(name));
        trainable += /running_(mean|var)$/.test(name) ? 0 : all.get(name)!.length;
      }
    }
    expect(trainable).toBe(269_722);
    await rewriteSafetensors(file, at("resnet"), all);
    expect((await readFile(at("resnet"))).equals(await readFile(kResnet))).toBe(true);
  });

  it("differs in one tensor's bytes alone when one weight is masked", async ({ skip }) => {
    skip(!existsSync(kResnet), kReason);
    await using file = await SafetensorsFile.open(kResnet);
    const { name, begin } = [...file.tensors.values()].find(({ shape }) => shape.length === 4)!;
    const values = await file.readFloat32(name);
    values[5] = 0;
    await rewriteSafetensors(file, at("masked"), new Map([[name, values]]));
    const expected = await readFile(kResnet);
    const place = file.dataStart + begin + 20;
    expect(expected.subarray(place, place + 4).equals(Buffer.alloc(4))).toBe(false);
    expected.fill(0, place, place + 4);
    expect((await readFile(at("masked"))).equals(expected)).toBe(true);
  });
});
