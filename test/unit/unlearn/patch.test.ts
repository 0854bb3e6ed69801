import { readFileSync, truncateSync, writeFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { writeSafetensors } from "../../../src/io/safetensors.js";
import { weightsDigest } from "../../../src/unlearn/fisher-store.js";
import {
  applyPatch,
  loadPatch,
  makePatch,
  revertPatch,
  savePatch,
} from "../../../src/unlearn/patch.js";
import { expectError, temporaryFolder } from "../io/support.js";
import { bits } from "./support.js";

const file = temporaryFolder();
const weights = (tensors: Record<string, readonly number[]>): Map<string, Float32Array> =>
  new Map(Object.entries(tensors).map(([name, values]) => [name, Float32Array.from(values)]));

const before = weights({ a: [1, -0, 0, 2.5, -3, 1e-40, 7, 8, 9], b: [4, 5], c: [-0] });
const masked = weights({ a: [1, 0, 0, 2.5, 0, 1e-40, 7, 8, 0], b: [4, 5], c: [-0] });
const tuned = weights({ a: [1, -0, -0, 2, 0, 1e-40, 7, 8, 9], b: [4.5, 5], c: [0] });

describe("a patch", () => {
  it("holds what changed alone, and new values only where they are not all 0", () => {
    const patch = makePatch(before, masked);
    expect([...patch.tensors.keys()]).toEqual(["a"]);
    const a = patch.tensors.get("a");
    expect([...(a?.changed ?? [])]).toEqual([0b00010010, 0b1]);
    expect([...(a?.oldValues ?? [])]).toEqual([-0, -3, 9]);
    expect(a?.newValues).toBeNull();
    expect([...makePatch(before, tuned).tensors.keys()]).toEqual(["a", "b", "c"]);
    expect(makePatch(before, before).tensors.size).toBe(0);
  });

  it("applies and reverts bit for bit, −0 and denormals too, and leaves its inputs alone", () => {
    for (const after of [masked, tuned, before]) {
      const patch = makePatch(before, after);
      const [a, b] = [bits(before), bits(after)];
      expect(bits(applyPatch(before, patch))).toEqual(b);
      expect(bits(revertPatch(after, patch))).toEqual(a);
      expect([bits(before), bits(after)]).toEqual([a, b]);
    }
  });

  it("applies and reverts any two networks of the same tensors, through a file", async () => {
    const value = fc.oneof(fc.constantFrom(0, -0, 1), fc.float({ noNaN: true }));
    const pair = fc.array(fc.tuple(value, value), { minLength: 1, maxLength: 20 });
    let run = 0;
    await fc.assert(
      fc.asyncProperty(pair, async (values) => {
        const old = weights({ w: values.map(([x]) => x), s: [1] });
        const young = weights({ w: values.map(([, y]) => y), s: [1] });
        run += 1;
        const path = file(`any-${run % 2}.safetensors`);
        await savePatch(makePatch(old, young), path);
        const patch = await loadPatch(path);
        expect(bits(applyPatch(old, patch))).toEqual(bits(young));
        expect(bits(revertPatch(young, patch))).toEqual(bits(old));
      }),
      { numRuns: 40 },
    );
  });

  it("refuses weights that it was not made for, and networks of other tensors", async () => {
    const patch = makePatch(before, masked);
    await expectError(() => applyPatch(masked, patch), "ERR_FM_MISMATCH", "the patch was made for");
    await expectError(() => revertPatch(before, patch), "ERR_FM_MISMATCH");
    await expectError(() => applyPatch(weights({ a: [1] }), patch), "ERR_FM_MISMATCH");
    await expectError(() => makePatch(before, weights({ a: [1] })), "ERR_FM_MISMATCH", '"a"');
    const more = new Map([...before, ["d", Float32Array.of(1)]]);
    await expectError(() => makePatch(before, more), "ERR_FM_MISMATCH", '"d"');
    await expectError(() => makePatch(more, before), "ERR_FM_MISMATCH", '"d"');
  });
});

describe("a patch file", () => {
  const path = file;
  async function saved(): Promise<string> {
    const at = path("patch.safetensors");
    await savePatch(makePatch(before, tuned), at);
    return at;
  }

  it("is the patch again", async () => {
    expect(await loadPatch(await saved())).toEqual(makePatch(before, tuned));
    await savePatch(makePatch(before, before), path("none.safetensors"));
    const none = await loadPatch(path("none.safetensors"));
    expect(bits(applyPatch(before, none))).toEqual(bits(before));
  });

  it("that is cut off anywhere is refused, the file named", async () => {
    const whole = readFileSync(await saved());
    const at = path("cut.safetensors");
    for (let length = 0; length < whole.length; length += 7) {
      writeFileSync(at, whole);
      truncateSync(at, length);
      await expectError(() => loadPatch(at), "ERR_FM_BAD_FILE", at);
    }
  });

  it("whose values were damaged does not pass for the network it was made of", async () => {
    const at = await saved();
    const bytes = readFileSync(at);
    const dataStart = 8 + Number(bytes.readBigUInt64LE());
    for (let i = dataStart; i < bytes.length; i++) {
      const damaged = Buffer.from(bytes);
      damaged[i] = (damaged[i] as number) ^ 0x10;
      writeFileSync(at, damaged);
      let error: unknown;
      try {
        const patch = await loadPatch(at);
        applyPatch(before, patch);
        revertPatch(tuned, patch);
      } catch (caught) {
        error = caught;
      }
      expect((error as { code?: string } | undefined)?.code, `byte ${i}`).toMatch(
        /^ERR_FM_(BAD_FILE|MISMATCH)$/,
      );
    }
  });

  const u8 = (name: string, ...data: number[]) =>
    ({ name, dtype: "U8", shape: [data.length], data: Uint8Array.from(data) }) as const;
  const f32 = (name: string, ...values: number[]) =>
    ({
      name,
      dtype: "F32",
      shape: [values.length],
      data: new Uint8Array(Float32Array.from(values).buffer),
    }) as const;
  const meta = { format: "fishermask.patch.1", before: "x", after: "y", "size/w": "3" };

  it.each([
    ["another format", { ...meta, format: "pt" }, [u8("changed/w", 1), f32("old/w", 1)], "format"],
    ["no digests", { format: meta.format }, [], "digests"],
    ["no size", { ...meta, "size/w": "" }, [u8("changed/w", 1), f32("old/w", 1)], '"w"'],
    ["half a weight", { ...meta, "size/w": "2.5" }, [u8("changed/w", 1), f32("old/w", 1)], '"w"'],
    ["too few bits", { ...meta, "size/w": "9" }, [u8("changed/w", 1), f32("old/w", 1)], '"w"'],
    ["a bit in the padding", meta, [u8("changed/w", 9), f32("old/w", 1, 2)], '"w"'],
    ["no old values", meta, [u8("changed/w", 1)], '"w"'],
    ["too many old values", meta, [u8("changed/w", 1), f32("old/w", 1, 2)], '"w"'],
    ["too few new", meta, [u8("changed/w", 3), f32("old/w", 1, 2), f32("new/w", 1)], '"w"'],
    ["bytes for values", meta, [u8("changed/w", 1), u8("old/w", 1)], '"w"'],
  ] as const)("with %s is refused, the place named", async (_, metadata, tensors, word) => {
    const at = path("hostile.safetensors");
    await writeSafetensors(at, tensors, metadata);
    await expectError(() => loadPatch(at), "ERR_FM_BAD_FILE", word, at);
  });

  it("for tensors that the network lacks, under its very digest, is refused", async () => {
    const digest = weightsDigest(before);
    for (const [name, size] of [
      ["zz", "3"],
      ["b", "3"],
    ] as const) {
      const at = path("foreign.safetensors");
      await writeSafetensors(at, [u8(`changed/${name}`, 1), f32(`old/${name}`, 1)], {
        ...meta,
        before: digest,
        [`size/${name}`]: size,
      });
      const patch = await loadPatch(at);
      await expectError(() => applyPatch(before, patch), "ERR_FM_MISMATCH", `"${name}"`);
    }
  });
});
