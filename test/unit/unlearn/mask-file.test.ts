import { describe, expect, it } from "vitest";
import { type TensorSource, writeSafetensors } from "../../../src/io/safetensors.js";
import { UNITS } from "../../../src/native/masking.js";
import { scoreNetwork, selectMask } from "../../../src/unlearn/mask.js";
import { loadMasks, type MaskMeta, saveMasks } from "../../../src/unlearn/mask-file.js";
import { expectError, temporaryFolder } from "../io/support.js";
import { tinyModel } from "./support.js";

const file = temporaryFolder();

describe("keep-mask files", () => {
  it.each(UNITS)("hold masks of unit %s bit for bit", async (unit) => {
    const { graph, weights } = tinyModel();
    const rule = { criterion: "random", unit, scope: "global", threads: 1 } as const;
    const scores = await scoreNetwork(graph, weights, null, null, rule);
    const selection = await selectMask(scores, { ratio: 0.3 });
    const meta: MaskMeta = {
      unit,
      scope: "global",
      criterion: "random",
      k: selection.units,
      modelDigest: "digest",
      shapes: new Map(graph.parameters.map(({ name, shape }) => [name, shape])),
    };
    const path = file(`${unit}.safetensors`);
    await saveMasks(selection.masks, meta, path);
    const read = await loadMasks(path);
    expect(read).toEqual({ masks: selection.masks, unit, modelDigest: "digest" });
  });

  const meta = {
    format: "fishermask.keep-mask.1",
    unit: "weight",
    k: "2",
    modelDigest: "m",
    "shape/w": "3,3",
  };
  const u8 = (...data: number[]): TensorSource => ({
    name: "w",
    dtype: "U8",
    shape: [data.length],
    data: Uint8Array.from(data),
  });
  const write = async (metadata: object, tensor: TensorSource): Promise<string> => {
    const path = file("hostile.safetensors");
    await writeSafetensors(path, [tensor], { ...meta, ...metadata });
    return path;
  };

  it("are read when nothing is wrong with them", async () => {
    const { masks } = await loadMasks(await write({}, u8(0b11111001, 1)));
    expect(masks.get("w")).toEqual({
      bits: Uint8Array.of(0b11111001, 1),
      units: 9,
      elementsPerUnit: 1,
    });
  });

  it.each([
    ["format", { format: "fishermask.patch.1" }, "format"],
    ["unit", { unit: "pixel" }, "format"],
    ["k", { k: "3" }, '"k"'],
    ["no k", { k: "" }, '"k"'],
    ["an empty shape", { "shape/w": "" }, '"w"'],
    ["a shape of 0", { "shape/w": "9,0" }, '"w"'],
    ["a negative shape", { "shape/w": "-3,-3" }, '"w"'],
    ["a shape of words", { "shape/w": "three" }, '"w"'],
    ["a larger shape", { "shape/w": "9,9" }, '"w"'],
    ["a shape that overflows", { "shape/w": "4294967296,4294967296,4294967296" }, '"w"'],
  ])("with another %s are refused, the place named", async (_, change, word) => {
    const path = await write(change, u8(0b11111001, 1));
    await expectError(() => loadMasks(path), "ERR_FM_BAD_FILE", word, path);
  });

  it("with bits in the padding, too few bytes or another type are refused", async () => {
    for (const tensor of [
      u8(0b11111001, 0b11),
      u8(0b11111001),
      { ...u8(1, 2), dtype: "F16" as const, shape: [1] },
    ]) {
      const path = await write({}, tensor);
      await expectError(() => loadMasks(path), "ERR_FM_BAD_FILE", '"w"', path);
    }
  });
});
