import { describe, expect, it } from "vitest";
import type { OnnxDType } from "../../../../src/io/onnx/model.js";
import { derivedBinding, derivedKind } from "../../../../src/model/onnx/derived-inputs.js";
import { realValues } from "../../../../src/model/onnx/engine-graph.js";
import { importOnnx } from "../../../../src/model/onnx/import.js";
import { EngineNetwork } from "../../../../src/native/network.js";
import { expectError } from "../../io/support.js";
import {
  floats,
  info,
  int,
  int64s,
  type ModelParts,
  model,
  node,
  readTensor,
} from "./model-parts.js";

const kLength = 4;

/** The first output for ids (1, 4) and the mask that follows from them, of this type. */
async function masked(
  parts: Omit<ModelParts, "inputs">,
  ids: readonly number[],
  dtype: OnnxDType = "int64",
): Promise<readonly number[]> {
  const inputs = [
    info("attention_mask", ["n", kLength], dtype),
    info("input_ids", ["n", kLength], "int64"),
  ];
  const imported = await importOnnx(model({ ...parts, inputs }), readTensor, {
    name: "g",
    inputs: new Map([
      ["attention_mask", { kind: "mask", ids: "input_ids", dtype }],
      [
        "input_ids",
        { kind: "value", dims: [1, kLength], dtype: "int64", layout: "unbatched" } as const,
      ],
    ]),
  });
  const [output] = imported.outputs;
  const name = output?.value ?? expect.fail("a known output");
  using network = new EngineNetwork(JSON.stringify(imported.graph), { threads: 1 });
  await network.setParameters(imported.weights);
  const made = await network.run(new Map([["input_ids", Int32Array.from(ids)]]), [name]);
  return [...(made.get(name) ?? [])];
}

const kCast = { float: { to: int(1) }, int64: { to: int(7) }, bool: { to: int(9) } };

describe("an attention mask", () => {
  it.each(["int64", "int32", "float", "bool"] as const)(
    "of %s is 1 but for padding",
    async (type) => {
      const nodes = [node("Cast", ["attention_mask"], ["y"], kCast.float)];
      expect(await masked({ nodes, outputs: ["y"] }, [0, 5, -1, -1], type)).toEqual([1, 1, 0, 0]);
    },
  );

  it("becomes what BERT adds to its scores", async () => {
    const nodes = [
      node("Unsqueeze", ["attention_mask", "axes"], ["u"]),
      node("Cast", ["u"], ["f"], kCast.float),
      node("Sub", ["one", "f"], ["s"]),
      node("Mul", ["s", "low"], ["y"]),
    ];
    const initializers = {
      axes: int64s([2], [1, 2]),
      one: floats([], [1]),
      low: floats([], [-10000]),
    };
    const made = await masked({ nodes, outputs: ["y"], initializers }, [3, 3, 3, -1]);
    expect(made.map(Math.abs)).toEqual([0, 0, 0, 10000]);
  });

  it("is computed with as whole numbers: positions of a left-padded sequence", async () => {
    const nodes = [
      node("CumSum", ["attention_mask", "axis"], ["c"]),
      node("Mul", ["c", "attention_mask"], ["p"]),
      node("Sub", ["p", "one"], ["q"]),
      node("Where", ["hidden", "one", "q"], ["w"]),
      node("Equal", ["attention_mask", "zero"], ["hidden"]),
      node("Cast", ["w"], ["y"], kCast.float),
    ];
    // Nodes stand in the order in which they compute.
    const order = [0, 1, 2, 4, 3, 5].map((i) => nodes[i] as (typeof nodes)[number]);
    const initializers = {
      axis: int64s([], [1]),
      one: int64s([1], [1]),
      zero: int64s([1], [0]),
    };
    const made = await masked({ nodes: order, outputs: ["y"], initializers }, [-1, -1, 8, 8]);
    expect(made).toEqual([1, 1, 0, 1]);
  });

  it("makes positions that pick rows of a learnt table", async () => {
    const nodes = [
      node("CumSum", ["attention_mask", "axis"], ["c"]),
      node("Mul", ["c", "attention_mask"], ["p"]),
      node("Sub", ["p", "one"], ["q"]),
      node("Gather", ["table", "q"], ["y"]),
    ];
    const initializers = {
      axis: int64s([], [1]),
      one: int64s([1], [1]),
      table: floats([3, 2], [1, 2, 3, 4, 5, 6]),
    };
    // −1, of the padding, is the last row.
    const made = await masked({ nodes, outputs: ["y"], initializers }, [7, 7, -1, -1]);
    expect(made).toEqual([1, 2, 3, 4, 5, 6, 5, 6]);
  });

  it("is counted, compared and cast to bool and back", async () => {
    const nodes = [
      node("ReduceSum", ["attention_mask", "axes"], ["total"]),
      node("Greater", ["total", "two"], ["many"]),
      node("Cast", ["many"], ["whole"], kCast.int64),
      node("Add", ["whole", "total"], ["sum"]),
      node("Cast", ["sum"], ["y"], kCast.float),
    ];
    const initializers = { axes: int64s([1], [1]), two: int64s([1], [2]) };
    expect(await masked({ nodes, outputs: ["y"], initializers }, [1, 1, 1, -1])).toEqual([4]);
    expect(await masked({ nodes, outputs: ["y"], initializers }, [1, 1, -1, -1])).toEqual([2]);
  });

  it.each([
    ["Div", ["attention_mask", "two"], "whole numbers"],
    ["Gather", ["cube", "attention_mask"], "places or sizes"],
    ["Mul", ["attention_mask", "large"], "up to 33554432"],
    ["Mul", ["attention_mask", "input_ids"], "ids and other whole numbers"],
  ])("is refused by %s of %j", async (opType, inputs, reason) => {
    const initializers = {
      two: int64s([1], [2]),
      large: int64s([1], [2 ** 25]),
      cube: floats([2, 1, 3], [1, 2, 3, 4, 5, 6]),
    };
    const nodes = [node(opType, inputs, ["z"]), node("Cast", ["z"], ["y"], kCast.float)];
    await expectError(
      () => masked({ nodes, outputs: ["y"], initializers }, [1, 2, 3, 4]),
      "ERR_FM_UNSUPPORTED",
      reason,
    );
  });
});

describe("derived inputs", () => {
  it.each([
    ["attention_mask", "mask"],
    ["input_mask:0", "mask"],
    ["token_type_ids", "zeros"],
    ["segment_ids", "zeros"],
    ["model.position_ids", "positions"],
    ["input_ids", undefined],
    ["decoder_attention_mask", undefined],
    ["past_key_values.0.key", undefined],
  ])("%s: %s", (name, kind) => {
    expect(derivedKind(info(name, [1, 4], "int64"))).toBe(kind);
  });

  it("are zeros and positions of the input's type", () => {
    const data = (name: string, dtype: OnnxDType) => {
      const binding = derivedBinding(info(name, ["n", 3], dtype), "input_ids", 3, "m.onnx");
      if (binding.kind !== "constant") return expect.fail("no constant");
      expect([binding.array.dims, binding.array.dtype]).toEqual([[1, 3], dtype]);
      return [...realValues(binding.array)];
    };
    expect(data("position_ids", "int64")).toEqual([0, 1, 2]);
    expect(data("token_type_ids", "int32")).toEqual([0, 0, 0]);
  });

  it("have the ids' sizes", async () => {
    const shaped = (dims: readonly (number | string | null)[]) => async () =>
      derivedBinding(info("attention_mask", dims, "int64"), "input_ids", 3, "m.onnx");
    await expectError(shaped(["n", 4]), "ERR_FM_UNSUPPORTED", "attention_mask");
    await expectError(shaped(["n", 1, 3, 3]), "ERR_FM_UNSUPPORTED", "(N, 3)");
  });
});
