import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { inferShape, type ShapeContext } from "../../../src/model/shape-rules.js";
import { expectError } from "./errors.js";
import { readHeader } from "./safetensors-fixture.js";

const kFolder = "test/fixtures/parity/ops";
const kCases = (
  JSON.parse(readFileSync(`${kFolder}/cases.json`, "utf8")) as {
    cases: (ShapeContext & { file: string })[];
  }
).cases.filter((node) => node.op !== "cross_entropy");

type Node = [
  op: string,
  inputs: number[][],
  parameters: Record<string, number[]>,
  attributes: Record<string, number | string | boolean | number[]>,
];
type Row = [...Node, output: number[]];
type BadRow = [...Node, words: string];

describe("inferShape", () => {
  it.each(kCases)("gives PyTorch's sizes: $name", (node) => {
    const output = readHeader(`${kFolder}/${node.file}.safetensors`).get(`${node.name}/output0`);
    expect(inferShape(node)).toEqual(output?.shape.slice(1));
  });

  // Inputs, slots and attributes of ops, and the sizes that docs/ops.md gives.
  it.each([
    [
      "conv_transpose2d",
      [[3, 4, 6]],
      { weight: [6, 2, 3, 2] },
      { stride: [2, 1], padding: [1, 0, 0, 1], output_padding: [1, 0], groups: 2 },
      [7, 4, 4],
    ],
    ["embedding", [[2, 5]], { weight: [9, 3] }, {}, [2, 5, 3]],
    ["attention", [[4, 12], [7, 6], [7, 10], [7]], {}, { heads: 4, kv_heads: 2 }, [4, 20]],
    ["layer_norm", [[4, 3, 2]], { weight: [3, 2], bias: [3, 2] }, { dims: 2 }, [4, 3, 2]],
    ["group_norm", [[4, 6]], { weight: [6] }, { groups: 3 }, [4, 6]],
    ["rope", [[5, 12]], {}, { heads: 3, frequencies: [1, 0.1] }, [5, 12]],
    ["pad_mask", [[5]], {}, {}, [5]],
    [
      "binary_add",
      [
        [4, 1, 3],
        [2, 1],
      ],
      {},
      {},
      [4, 2, 3],
    ],
    ["mul", [[4, 3]], { other: [3] }, {}, [4, 3]],
    ["where", [[1], [4, 1], [3]], {}, {}, [4, 3]],
    ["reduce_mean", [[4, 3, 2]], {}, { axes: [-1, 0], keepdims: false }, [3]],
    ["reduce_max", [[4, 3]], {}, {}, [1, 1]],
    [
      "matmul",
      [
        [5, 3, 4],
        [3, 2],
      ],
      {},
      { transpose_a: true },
      [5, 4, 2],
    ],
    ["matmul", [[5, 4]], { other: [2, 4] }, { transpose_b: true }, [5, 2]],
    ["parameter", [], { value: [1, 7] }, {}, [1, 7]],
    ["reshape", [[4, 3]], {}, { shape: [2, 6] }, [2, 6]],
    ["transpose", [[4, 3, 2]], {}, { perm: [2, 0, 1] }, [2, 4, 3]],
    ["slice", [[9, 4]], {}, { starts: [8, 1], steps: [-3, 1], sizes: [3, 2] }, [3, 2]],
    ["pad", [[3]], {}, { before: [1], after: [2], value: 0 }, [6]],
    ["expand", [[3, 1]], {}, { shape: [2, 3, 4] }, [2, 3, 4]],
    [
      "resample",
      [[3, 4]],
      {},
      { axis: 0, taps: 2, index: [0, 1, 1, 2, 2, -1], weight: [1, 1, 1, 1, 1, 1] },
      [3, 4],
    ],
    [
      "gather",
      [
        [6, 3],
        [2, 2],
      ],
      {},
      { axis: 0 },
      [2, 2, 3],
    ],
    ["take", [[6]], {}, { shape: [2, 2], index: [0, 5, -1, 2] }, [2, 2]],
    ["scatter", [[6], [2]], {}, { index: [1, 3], reduction: "add" }, [6]],
  ] satisfies Row[])("%s: %j, %j, %j → %j", (op, inputs, parameters, attributes, output) => {
    expect(inferShape({ name: "n", op, inputs, parameters, attributes })).toEqual(output);
  });

  it.each([
    [
      "attention",
      [
        [4, 12],
        [7, 5],
        [7, 10],
      ],
      {},
      { heads: 4, kv_heads: 2 },
      "(7, 5)",
    ],
    ["attention", [[4, 4], [7, 4], [7, 4], [4]], {}, { heads: 2 }, "(4, 7)"],
    ["layer_norm", [[4, 3]], { weight: [4] }, {}, "(4)"],
    ["group_norm", [[4, 6]], {}, { groups: 4 }, "4 groups"],
    ["rope", [[5, 12]], {}, { heads: 6, frequencies: [1, 0.1] }, "(5, 12)"],
    ["binary_add", [[4, 3], [4]], {}, {}, "(4, 3) and (4)"],
    ["mul", [[3]], { other: [2, 3] }, {}, "(2, 3)"],
    ["mul", [[3]], {}, {}, "2 inputs"],
    [
      "matmul",
      [
        [5, 3],
        [4, 2],
      ],
      {},
      {},
      "(4, 2)",
    ],
    ["matmul", [[5], [5, 2]], {}, {}, "2 sizes"],
    ["parameter", [], {}, {}, "value"],
    ["reshape", [[4, 3]], {}, { shape: [5, 2] }, "12 values"],
    ["transpose", [[4, 3]], {}, { perm: [0, 0] }, "(0, 0)"],
    ["slice", [[9]], {}, { starts: [5], steps: [2], sizes: [3] }, "5 to 9"],
    ["expand", [[3]], {}, { shape: [2] }, "(3)"],
    ["gather", [[3], [2]], {}, { axis: 1 }, "-1 to 0"],
    ["take", [[6]], {}, { shape: [2], index: [0] }, "2 places"],
    ["resample", [[6]], {}, { axis: 0, taps: 2, index: [0] }, "2 taps"],
    ["conv_transpose2d", [[3, 4, 6]], { weight: [5, 2, 3, 2] }, {}, "5 channels"],
  ] satisfies BadRow[])("refuses %s: %j, %j, %j", (op, inputs, parameters, attributes, words) => {
    const node = { name: "the-node", op, inputs, parameters, attributes };
    expectError(() => inferShape(node), "ERR_FM_SHAPE", "the-node", words);
  });

  it("knows nothing of other ops", () => {
    const node = { name: "n", op: "toString", inputs: [[1]], parameters: {}, attributes: {} };
    expect(inferShape(node)).toBeUndefined();
  });
});
