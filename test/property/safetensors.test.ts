import { mkdtempSync, rmSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import {
  rewriteSafetensors,
  type SafetensorsDtype,
  SafetensorsFile,
  type TensorSource,
  writeSafetensors,
} from "../../src/io/safetensors.js";
import { FishermaskError } from "../../src/native/errors.js";

const folder = mkdtempSync(join(tmpdir(), "fishermask-property-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const kWidths: readonly [SafetensorsDtype, number][] = [
  ["F64", 8],
  ["F32", 4],
  ["F16", 2],
  ["BF16", 2],
  ["I64", 8],
  ["U8", 1],
  ["F8_E4M3", 1],
];

const name = fc.string({ unit: "grapheme" }).filter((text) => text !== "__metadata__");

const tensor = fc
  .record({
    name,
    type: fc.constantFrom(...kWidths),
    shape: fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 3 }),
  })
  .chain(({ type: [dtype, width], shape, ...rest }) => {
    const length = shape.reduce((product, size) => product * size, width);
    const data = fc.uint8Array({ minLength: length, maxLength: length });
    return data.map((bytes): TensorSource => ({ ...rest, dtype, shape, data: bytes }));
  });

const tensors = fc.uniqueArray(tensor, { selector: (source) => source.name, maxLength: 8 });
const metadata = fc
  .array(fc.tuple(name, fc.string({ unit: "grapheme" })))
  .map((pairs) => new Map(pairs));

async function written(sources: TensorSource[], texts: Map<string, string>): Promise<string> {
  const path = join(folder, "file");
  await writeSafetensors(path, sources, texts);
  return path;
}

describe("safetensors", () => {
  it("reads what it wrote", async () => {
    await fc.assert(
      fc.asyncProperty(tensors, metadata, async (sources, texts) => {
        await using file = await SafetensorsFile.open(await written(sources, texts));
        expect([...file.metadata]).toEqual([...texts]);
        expect([...file.tensors.keys()].sort()).toEqual(
          sources.map((source) => source.name).sort(),
        );
        for (const { name: key, dtype, shape, data } of sources) {
          expect(file.info(key)).toMatchObject({ dtype, shape });
          expect(Buffer.compare(await file.readBytes(key), data as Uint8Array)).toBe(0);
        }
      }),
      { numRuns: 200 },
    );
  });

  it("writes unchanged tensors back byte for byte, as copies and as values", async () => {
    await fc.assert(
      fc.asyncProperty(tensors, metadata, async (sources, texts) => {
        const path = await written(sources, texts);
        await using file = await SafetensorsFile.open(path);
        const values = new Map<string, Float32Array>();
        for (const { name: key, dtype } of sources) {
          if (["F32", "F16", "BF16"].includes(dtype)) {
            const read = await file.readFloat32(key);
            if (read.every(Number.isFinite)) {
              values.set(key, read);
            }
          }
        }
        const before = await readFile(path);
        await rewriteSafetensors(file, join(folder, "copy"), values);
        expect((await readFile(join(folder, "copy"))).equals(before)).toBe(true);
      }),
      { numRuns: 200 },
    );
  });

  it("reads a damaged file or refuses it as a bad file, never anything else", async () => {
    const damage = fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 }));
    let refused = 0;
    await fc.assert(
      fc.asyncProperty(tensors, metadata, damage, async (sources, texts, [place, byte]) => {
        const bytes = await readFile(await written(sources, texts));
        bytes[place % bytes.length] = byte;
        const path = join(folder, "damaged");
        await writeFile(path, bytes);
        try {
          await using file = await SafetensorsFile.open(path);
          for (const key of file.tensors.keys()) {
            await file.readBytes(key);
          }
        } catch (error) {
          refused += 1;
          expect(error).toBeInstanceOf(FishermaskError);
          expect(error).toMatchObject({ code: "ERR_FM_BAD_FILE" });
        }
      }),
      { numRuns: 500 },
    );
    expect(refused).toBeGreaterThan(50);
  });

  it("refuses every file that was cut short or has grown", async () => {
    await fc.assert(
      fc.asyncProperty(
        tensors,
        fc.integer({ min: 1, max: 64 }),
        fc.boolean(),
        async (sources, by, cut) => {
          const whole = await readFile(await written(sources, new Map()));
          const bytes = cut ? whole.subarray(0, -by) : Buffer.concat([whole, Buffer.alloc(by)]);
          const path = join(folder, "cut");
          await writeFile(path, bytes);
          await expect(SafetensorsFile.open(path)).rejects.toMatchObject({
            code: "ERR_FM_BAD_FILE",
          });
        },
      ),
      { numRuns: 200 },
    );
  });
});
