import { describe, expect, it } from "vitest";
import {
  counting,
  floats,
  int64,
  type NodeInput,
  type NodeOptions,
  runNode,
  tensor,
} from "./node-support.js";

type Inputs = Parameters<typeof runNode>[1];

async function values(opType: string, inputs: Inputs, options?: NodeOptions): Promise<number[]> {
  return (await runNode(opType, inputs, options)).outputs[0]?.values ?? [];
}

function initializer(array: NodeInput["array"]): NodeInput {
  return { array, initializer: true };
}

function expectClose(received: readonly number[], wanted: readonly number[]): void {
  expect(received.length).toBe(wanted.length);
  for (const [i, value] of received.entries()) {
    expect(value).toBeCloseTo(wanted[i] as number, 5);
  }
}

describe("elementwise operators", () => {
  it("adds an initializer per channel as a slot, with role bias", async () => {
    const { imported, outputs } = await runNode("Add", [
      counting([1, 2, 2, 2]),
      initializer(floats([2, 1, 1], [10, 20])),
    ]);
    expect(outputs[0]?.values).toEqual([10, 11, 12, 13, 24, 25, 26, 27]);
    expect(imported.graph.parameters).toMatchObject([{ name: "in1", role: "bias" }]);
    expect(imported.graph.nodes.some(({ op }) => op === "parameter")).toBe(false);
  });

  it("takes a bias that stands first as a slot, too, but no difference's", async () => {
    const [bias, x] = [initializer(floats([2], [10, 20])), floats([2, 2], [1, 2, 3, 4])];
    const sum = await runNode("Add", [bias, x]);
    expect(sum.outputs[0]?.values).toEqual([11, 22, 13, 24]);
    expect(sum.imported.graph.nodes.map(({ op }) => op)).toEqual(["binary_add"]);
    expect(await values("Sub", [bias, x])).toEqual([9, 18, 7, 16]);
  });

  it("subtracts from and multiplies with numbers", async () => {
    expect(await values("Sub", [int64([], [1]), int64([], [3])])).toEqual([-2]);
    expect(await values("Sub", [initializer(floats([], [1])), floats([2], [3, 5])])).toEqual([
      -2, -4,
    ]);
    expect(await values("Mean", [floats([2], [1, 2]), floats([2], [3, 5])])).toEqual([2, 3.5]);
  });

  it("finds infinities of one sign", async () => {
    const x = floats([4], [-Infinity, 3.4028234663852886e38, Infinity, Number.NaN]);
    expect(await values("IsInf", [x], { attributes: { detect_positive: 0n } })).toEqual([
      1, 0, 0, 0,
    ]);
    expect(await values("IsNaN", [x])).toEqual([0, 0, 0, 1]);
  });

  it("clips to the upper bound where the bounds cross", async () => {
    const x = floats([3], [-5, 0, 5]);
    expect(await values("Clip", [x, floats([], [2]), floats([], [1])])).toEqual([1, 1, 1]);
    expect(await values("Clip", [x, floats([], [-1]), null])).toEqual([-1, 0, 5]);
  });

  it("applies a slope per channel below 0", async () => {
    const x = floats([1, 2, 1, 2], [-1, 1, -2, 2]);
    expect(await values("PRelu", [x, initializer(floats([2, 1, 1], [0.5, 0.25]))])).toEqual([
      -0.5, 1, -0.5, 2,
    ]);
  });

  it("keeps the dividend's sign in a float remainder", async () => {
    const [a, b] = [floats([2], [-5, 5]), floats([2], [3, -3])];
    expect(await values("Mod", [a, b], { attributes: { fmod: 1n } })).toEqual([-2, 2]);
  });
});

describe("reductions and softmax", () => {
  it("reduces axes from an input, without keeping them", async () => {
    const { outputs } = await runNode("ReduceMean", [counting([2, 3]), int64([1], [-1])], {
      attributes: { keepdims: 0n },
    });
    expect(outputs).toEqual([{ dims: [2], values: [1, 4] }]);
  });

  it("takes all sizes from the axis on as one before opset 13", async () => {
    const x = floats([1, 2, 2], [0, 0, 0, Math.log(3)]);
    expectClose(await values("Softmax", [x], { opset: 11 }), [1 / 6, 1 / 6, 1 / 6, 1 / 2]);
    expectClose(await values("Softmax", [x], { opset: 13 }), [1 / 2, 1 / 2, 1 / 4, 3 / 4]);
  });

  it("marks the first of the largest", async () => {
    expect(await values("Hardmax", [floats([1, 3], [1, 4, 4])])).toEqual([0, 1, 0]);
  });

  it("ranks at run time", async () => {
    const { outputs } = await runNode("TopK", [floats([4], [1, 3, 3, 2]), int64([1], [3])], {
      outputs: 2,
    });
    expect(outputs.map((output) => output.values)).toEqual([
      [3, 3, 2],
      [1, 2, 3],
    ]);
  });
});

describe("operators that move", () => {
  it("gathers ids from the end along a channel", async () => {
    const options = { attributes: { axis: 1n } };
    const y = await values("Gather", [counting([1, 3, 2]), int64([2], [-1, 0])], options);
    expect(y).toEqual([4, 5, 0, 1]);
  });

  it("scatters with sums", async () => {
    const inputs = [floats([3], [1, 1, 1]), int64([2, 1], [2, 2]), floats([2], [5, 7])];
    expect(await values("ScatterND", inputs, { attributes: { reduction: "add" } })).toEqual([
      1, 1, 13,
    ]);
  });

  it("pads images by reflection, and with infinity", async () => {
    const x = counting([1, 1, 1, 3]);
    const pads = int64([8], [0, 0, 0, 1, 0, 0, 0, 2]);
    expect(await values("Pad", [x, pads], { attributes: { mode: "reflect" } })).toEqual([
      1, 0, 1, 2, 1, 0,
    ]);
    expect(await values("Pad", [x, pads, floats([], [-Infinity])])).toEqual([
      -Infinity,
      0,
      1,
      2,
      -Infinity,
      -Infinity,
    ]);
  });

  it("turns channels into space in both orders", async () => {
    const x = counting([1, 4, 1, 2]);
    const blocks = { blocksize: 2n };
    expect(await values("DepthToSpace", [x], { attributes: blocks })).toEqual([
      0, 2, 1, 3, 4, 6, 5, 7,
    ]);
    const two = counting([1, 8, 1, 1]);
    expect(await values("DepthToSpace", [two], { attributes: { ...blocks, mode: "CRD" } })).toEqual(
      [0, 1, 2, 3, 4, 5, 6, 7],
    );
    expect(await values("DepthToSpace", [two], { attributes: blocks })).toEqual([
      0, 2, 4, 6, 1, 3, 5, 7,
    ]);
  });

  it("adds up overlapping blocks", async () => {
    const x = floats([1, 2, 3], [1, 2, 3, 10, 20, 30]);
    expect(await values("Col2Im", [x, int64([1], [4]), int64([1], [2])])).toEqual([1, 12, 23, 30]);
  });

  it("sums up from the end", async () => {
    const options = { attributes: { reverse: 1n, exclusive: 1n } };
    expect(await values("CumSum", [floats([3], [1, 2, 3]), int64([], [0])], options)).toEqual([
      5, 3, 0,
    ]);
  });
});

describe("resizing", () => {
  const line = floats([1, 1, 1, 4], [1, 2, 3, 4]);
  const none = floats([0], []);
  const scales = (width: number): NodeInput["array"] => floats([4], [1, 1, 1, width]);

  it("interpolates linearly at half pixels", async () => {
    const y = await values("Resize", [line, none, scales(0.5)], { attributes: { mode: "linear" } });
    expectClose(y, [1.5, 3.5]);
  });

  it("aligns corners", async () => {
    const sizes = int64([4], [1, 1, 1, 7]);
    const y = await values("Resize", [line, none, none, sizes], {
      attributes: { mode: "linear", coordinate_transformation_mode: "align_corners" },
    });
    expectClose(y, [1, 1.5, 2, 2.5, 3, 3.5, 4]);
  });

  it("rounds halves to the left or right", async () => {
    const nearest = (rule: string): Promise<number[]> =>
      values("Resize", [line, none, scales(0.5)], {
        attributes: {
          mode: "nearest",
          nearest_mode: rule,
          coordinate_transformation_mode: "half_pixel",
        },
      });
    expect(await nearest("round_prefer_floor")).toEqual([1, 3]);
    expect(await nearest("round_prefer_ceil")).toEqual([2, 4]);
  });

  it("averages over the wider support of an antialiased one", async () => {
    const y = await values("Resize", [line, none, scales(0.5)], {
      attributes: { mode: "linear", antialias: 1n },
    });
    // Triangle weights 3/8, 3/8 and 1/8 on each side; the outer ones meet the edge.
    expectClose(y, [(1 + 3 * 1 + 3 * 2 + 3) / 8, (2 + 3 * 3 + 3 * 4 + 4) / 8]);
  });

  it("repeats in an Upsample", async () => {
    expect(await values("Upsample", [line, initializer(scales(2))], { opset: 9 })).toEqual([
      1, 1, 2, 2, 3, 3, 4, 4,
    ]);
  });
});

describe("losses with known labels", () => {
  const logs = floats([2, 2], [-1, -2, -3, -4]);

  it("leaves ignored labels out of the mean", async () => {
    const y = await values("NegativeLogLikelihoodLoss", [logs, int64([2], [1, 7])], {
      attributes: { ignore_index: 7n },
    });
    expect(y).toEqual([2]);
  });

  it("divides by the weights of the labels", async () => {
    const y = await values("NegativeLogLikelihoodLoss", [
      logs,
      int64([2], [0, 1]),
      floats([2], [1, 3]),
    ]);
    expectClose(y, [(1 * 1 + 4 * 3) / 4]);
  });
});

describe("attention and positions", () => {
  it("weighs values by softmax, and looks no further than itself where causal", async () => {
    const q = floats([1, 1, 2, 1], [0, 0]);
    const v = floats([1, 1, 2, 1], [2, 4]);
    expectClose(await values("Attention", [q, q, v], { opset: 23 }), [3, 3]);
    const causal = { opset: 23, attributes: { is_causal: 1n } };
    expectClose(await values("Attention", [q, q, v], causal), [2, 3]);
  });

  it("rotates halves and interleaved pairs", async () => {
    const x = floats([1, 1, 1, 4], [1, 2, 3, 4]);
    const [cos, sin] = [floats([1, 1, 2], [0, 0]), floats([1, 1, 2], [1, 1])];
    const at = int64([1, 1], [0]);
    const table = (array: NodeInput["array"]): NodeInput["array"] => ({ ...array, dims: [1, 2] });
    expectClose(
      await values("RotaryEmbedding", [x, table(cos), table(sin), at], { opset: 23 }),
      [-3, -4, 1, 2],
    );
    expectClose(
      await values("RotaryEmbedding", [x, cos, sin], {
        opset: 23,
        attributes: { interleaved: 1n },
      }),
      [-2, 1, -4, 3],
    );
  });
});

describe("recurrent operators", () => {
  const x = floats([2, 1, 1], [1, 2]);

  it("reads forwards and backwards", async () => {
    const one = initializer(floats([1, 1, 1], [1]));
    const options = (direction: string): NodeOptions => ({
      attributes: { hidden_size: 1n, direction, activations: ["Relu"] },
      outputs: 2,
    });
    const forward = await runNode("RNN", [x, one, one], options("forward"));
    expect(forward.outputs.map((output) => output.values)).toEqual([[1, 3], [3]]);
    const backward = await runNode("RNN", [x, one, one], options("reverse"));
    expect(backward.outputs.map((output) => output.values)).toEqual([[3, 2], [3]]);
    expect(forward.imported.graph.parameters.map(({ role }) => role).slice(0, 2)).toEqual([
      "weight",
      "weight",
    ]);
  });

  it("stops at each sequence's length", async () => {
    const two = floats([2, 2, 1], [1, 10, 2, 20]);
    const one = floats([1, 1, 1], [1]);
    const inputs = [two, one, one, null, tensor("int32", [2], [1, 2])];
    const { outputs } = await runNode("RNN", inputs, {
      attributes: { hidden_size: 1n, activations: ["Relu"] },
      outputs: 2,
    });
    expect(outputs.map((output) => output.values)).toEqual([
      [1, 10, 0, 30],
      [1, 30],
    ]);
  });

  it("keeps and forgets as an LSTM does", async () => {
    const w = floats([1, 4, 1], [0, 0, 0, 1]);
    const { outputs } = await runNode("LSTM", [x, w, floats([1, 4, 1], [0, 0, 0, 0])], {
      attributes: { hidden_size: 1n },
      outputs: 3,
    });
    const first = 0.5 * Math.tanh(1);
    const second = 0.5 * first + 0.5 * Math.tanh(2);
    expectClose(outputs[0]?.values ?? [], [0.5 * Math.tanh(first), 0.5 * Math.tanh(second)]);
    expectClose(outputs[2]?.values ?? [], [second]);
  });

  it("keeps a share of the state as a GRU does", async () => {
    const w = floats([1, 3, 1], [0, 0, 1]);
    const y = await values("GRU", [x, w, floats([1, 3, 1], [0, 0, 0])], {
      attributes: { hidden_size: 1n },
    });
    const first = 0.5 * Math.tanh(1);
    expectClose(y, [first, 0.5 * Math.tanh(2) + 0.5 * first]);
  });
});

describe("sampling images", () => {
  const image = counting([1, 1, 2, 2]);

  it("interpolates at grid points, and finds 0 outside", async () => {
    const grid = floats([1, 1, 2, 2], [0, 0, -3, -3]);
    expectClose(await values("GridSample", [image, grid]), [1.5, 0]);
    const border = { attributes: { padding_mode: "border" } };
    expectClose(await values("GridSample", [image, grid], border), [1.5, 0]);
    const corner = floats([1, 1, 1, 2], [3, 3]);
    expectClose(await values("GridSample", [image, corner], border), [3]);
  });

  it("makes the grid of an affine map", async () => {
    const theta = floats([1, 2, 3], [1, 0, 0.5, 0, 1, 0]);
    const y = await values("AffineGrid", [theta, int64([4], [1, 1, 1, 2])]);
    expectClose(y, [0, 0, 1, 0]);
  });

  it("puts maxima back where they were", async () => {
    const y = await values("MaxUnpool", [floats([1, 1, 1, 1], [5]), int64([1, 1, 1, 1], [2])], {
      attributes: { kernel_shape: [2n, 2n], strides: [2n, 2n] },
    });
    expect(y).toEqual([0, 0, 5, 0]);
  });
});
