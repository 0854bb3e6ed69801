import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import type { ArchitectureOptions } from "../../src/model/architecture.js";
import { architectures } from "../../src/model/architectures.js";
import { addon, fromNative, native, nativeAsync } from "../../src/native/addon.js";
import { ERROR_CODES, FishermaskError } from "../../src/native/errors.js";
import { SCORE_OPS } from "../../src/unlearn/expression.js";

const kSource = readFileSync("src/native/addon.ts", "utf8");

/** The members of an interface of src/native/addon.ts: what TypeScript believes of the addon. */
function membersOf(name: string): string[] {
  const body = new RegExp(`export interface ${name} \\{\\n([\\s\\S]*?)\\n\\}`).exec(kSource)?.[1];
  if (body === undefined) throw new Error(`no interface ${name} in src/native/addon.ts`);
  return [...body.matchAll(/^ {2}(?:readonly )?(\w+)[(?:]/gm)].map((match) => match[1] as string);
}

function methodsOf(type: { readonly prototype: unknown }): string[] {
  return Object.getOwnPropertyNames(type.prototype).filter((name) => name !== "constructor");
}

/** A small input that the architecture takes. */
function optionsFor(name: string): ArchitectureOptions {
  if (name.startsWith("mlp")) return { inputShape: [12], classes: 3, hidden: [8] };
  if (name.startsWith("lenet")) return { inputShape: [28, 28, 1], classes: 10 };
  return { inputShape: [32, 32, 3], classes: 10 };
}

describe("lists that C++ and TypeScript both hold", () => {
  it("error codes are the same, in the same order", () => {
    expect(addon().errorCodes()).toEqual(ERROR_CODES);
  });

  it("score ops are the same, in the same order: a program refers to them by number", () => {
    expect(addon().scoreOps()).toEqual(SCORE_OPS);
  });

  it("the addon exports what NativeAddon declares and nothing else", () => {
    expect(Object.keys(addon()).sort()).toEqual(membersOf("NativeAddon").sort());
  });

  it.each([
    ["NativeNetwork", "Network"],
    ["NativeTrainer", "Trainer"],
    ["NativeFisherPass", "FisherPass"],
  ] as const)("the methods of %s are those of the addon's class", (declared, name) => {
    const members = membersOf(declared);
    expect(members.length).toBeGreaterThan(0);
    expect(methodsOf(addon()[name]).sort()).toEqual(members.sort());
  });

  it.each([...architectures.keys()])("the engine has every op of %s", (name) => {
    const graph = architectures.get(name)?.build(optionsFor(name));
    const used = new Set(graph?.nodes.map((node) => node.op));
    expect(used.size).toBeGreaterThan(0);
    expect([...used].filter((op) => !addon().ops().includes(op))).toEqual([]);
  });

  it("says what it was built from", () => {
    const info = addon().buildInfo();
    expect(info.oneDNN).toMatch(/^\d+\.\d+\.\d+$/);
    expect(info.hardwareThreads).toBeGreaterThan(0);
  });
});

describe("errors cross the border with their code", () => {
  const badUnit = { ratio: Number.NaN, units: 10 };

  it("a synchronous one", () => {
    expect(() => native((a) => a.ratioToK(badUnit.ratio, badUnit.units))).toThrow(
      expect.objectContaining({ name: "FishermaskError", code: "ERR_FM_ARGUMENT" }),
    );
  });

  it("one of the engine's thread", async () => {
    const one = new Float32Array(1);
    const scoring = {
      ops: Uint8Array.of(SCORE_OPS.indexOf("forgetFisher")),
      values: new Float32Array(1),
      unit: "weight",
      forgetCount: 1,
      remainCount: 1,
      seed: 0,
      threads: 1,
      tensors: [
        {
          name: "conv.weight",
          shape: [1],
          weight: Float32Array.of(1),
          forget: one.fill(Number.NaN),
        },
      ],
    };
    const failure = await nativeAsync((a) => a.scoreUnits(scoring)).catch((e: unknown) => e);
    expect(failure).toBeInstanceOf(FishermaskError);
    expect(failure).toMatchObject({ code: "ERR_FM_NON_FINITE" });
    expect((failure as Error).message).toContain("conv.weight");
  });

  it("a graph that is none", () => {
    expect(() => native((a) => new a.Network("{", { threads: 1 }))).toThrow(
      expect.objectContaining({ code: "ERR_FM_GRAPH" }),
    );
  });

  it("leaves what the addon did not throw as it is", () => {
    const error = new TypeError("not ours");
    expect(fromNative(error)).toBe(error);
    expect(fromNative("text")).toBe("text");
    const other = Object.assign(new Error("no such file"), { code: "ENOENT" });
    expect(fromNative(other)).toBe(other);
  });
});
