import { describe, expect, it } from "vitest";
import {
  counting,
  float,
  floats,
  info,
  int,
  int64s,
  ints,
  type ModelParts,
  node,
  run,
  text,
} from "./model-parts.js";

function single(
  operator: ReturnType<typeof node>,
  dims: readonly (readonly number[])[],
  more: Partial<ModelParts> = {},
): ModelParts {
  return {
    nodes: [operator],
    inputs: operator.inputs
      .filter((name) => name !== "" && more.initializers?.[name] === undefined)
      .map((name, i) => info(name, dims[i] ?? [])),
    outputs: operator.outputs.slice(0, 1),
    ...more,
  };
}

function expectClose(received: readonly number[], expected: readonly number[]): void {
  expect(received).toHaveLength(expected.length);
  expected.forEach((value, i) => {
    expect(received[i]).toBeCloseTo(value, 4);
  });
}

describe("values of imported nodes", () => {
  it("Conv: padding at the end alone (SAME_UPPER), two images", async () => {
    const ones = floats([1, 1, 2, 2], [1, 1, 1, 1]);
    const { dims, values } = await run(
      single(node("Conv", ["x", "w"], ["y"], { auto_pad: text("SAME_UPPER") }), [[2, 1, 2, 2]], {
        initializers: { w: ones },
      }),
      { x: counting([2, 1, 2, 2]) },
    );
    expect(dims).toEqual([2, 1, 2, 2]);
    expect(values).toEqual([10, 6, 7, 4, 26, 14, 15, 8]);
  });

  it("Conv over a line, and over depth as the sum over its slices", async () => {
    const line = await run(
      single(node("Conv", ["x", "w"], ["y"], { pads: ints(1, 0) }), [[1, 1, 3]], {
        initializers: { w: floats([1, 1, 2], [1, 10]) },
      }),
      { x: counting([1, 1, 3]) },
    );
    expect(line).toEqual({ dims: [1, 1, 3], values: [10, 21, 32] });
    const depth = await run(
      single(node("Conv", ["x", "w"], ["y"]), [[1, 1, 3, 1, 1]], {
        initializers: { w: floats([1, 1, 2, 1, 1], [1, 10]) },
      }),
      { x: counting([1, 1, 3, 1, 1]) },
    );
    expect(depth).toEqual({ dims: [1, 1, 2, 1, 1], values: [21, 32] });
  });

  it("ConvTranspose over depth: every slice times every place of the kernel", async () => {
    const { dims, values } = await run(
      single(
        node("ConvTranspose", ["x", "w", "b"], ["y"], { strides: ints(2, 1, 1) }),
        [[1, 1, 2, 1, 1]],
        { initializers: { w: floats([1, 1, 3, 1, 1], [1, 10, 100]), b: floats([1], [0.5]) } },
      ),
      { x: counting([1, 1, 2, 1, 1]) },
    );
    expect(dims).toEqual([1, 1, 5, 1, 1]);
    expect(values).toEqual([1.5, 10.5, 102.5, 20.5, 200.5]);
  });

  it("MaxPool and AveragePool with ceil_mode: what lies beyond the padding is not counted", async () => {
    const attributes = { kernel_shape: ints(2, 2), strides: ints(2, 2), ceil_mode: int(1) };
    const x = counting([1, 1, 3, 3]);
    const max = await run(single(node("MaxPool", ["x"], ["y"], attributes), [[1, 1, 3, 3]]), { x });
    expect(max.values).toEqual([5, 6, 8, 9]);
    for (const included of [0, 1]) {
      const average = await run(
        single(
          node("AveragePool", ["x"], ["y"], { ...attributes, count_include_pad: int(included) }),
          [[1, 1, 3, 3]],
        ),
        { x },
      );
      expectClose(average.values, [3, 4.5, 7.5, 9]);
    }
  });

  it("AveragePool: declared padding counts where count_include_pad says so, dilated windows too", async () => {
    const pool = (attributes: Parameters<typeof node>[3]) =>
      run(single(node("AveragePool", ["x"], ["y"], attributes), [[1, 1, 3]]), {
        x: counting([1, 1, 3]),
      });
    const base = { kernel_shape: ints(2), pads: ints(1, 0) };
    expectClose((await pool(base)).values, [1, 1.5, 2.5]);
    expectClose((await pool({ ...base, count_include_pad: int(1) })).values, [0.5, 1.5, 2.5]);
    expectClose((await pool({ kernel_shape: ints(2), dilations: ints(2) })).values, [2]);
  });

  it("MaxPool over three axes, and LpPool", async () => {
    const max = await run(
      single(node("MaxPool", ["x"], ["y"], { kernel_shape: ints(2, 2, 2) }), [[1, 1, 2, 2, 3]]),
      { x: counting([1, 1, 2, 2, 3]) },
    );
    expect(max).toEqual({ dims: [1, 1, 1, 1, 2], values: [11, 12] });
    const lp = await run(
      single(node("LpPool", ["x"], ["y"], { kernel_shape: ints(2), p: int(2) }), [[1, 1, 2]]),
      { x: floats([1, 1, 2], [3, -4]) },
    );
    expectClose(lp.values, [5]);
  });

  it("LayerNormalization over two axes with a scale that broadcasts", async () => {
    const { values } = await run(
      single(
        node("LayerNormalization", ["x", "s"], ["y"], { axis: int(1), epsilon: float(0) }),
        [[1, 2, 2]],
        { initializers: { s: floats([2], [1, 10]) } },
      ),
      { x: floats([1, 2, 2], [1, 1, 3, 3]) },
    );
    expectClose(values, [-1, -10, 1, 10]);
  });

  it("GroupNormalization before opset 21 has a scale a group", async () => {
    const { values } = await run(
      single(
        node("GroupNormalization", ["x", "s", "b"], ["y"], {
          num_groups: int(2),
          epsilon: float(0),
        }),
        [[1, 4, 1]],
        { opset: 18, initializers: { s: floats([2], [1, 10]), b: floats([2], [0, 5]) } },
      ),
      { x: floats([1, 4, 1], [1, 3, 2, 8]) },
    );
    expectClose(values, [-1, 1, -5, 15]);
  });

  it("Gemm with alpha, beta and transA; a bias of one row", async () => {
    const { dims, values } = await run(
      single(
        node("Gemm", ["a", "b", "c"], ["y"], {
          transA: int(1),
          alpha: float(2),
          beta: float(0.5),
        }),
        [[2, 1]],
        { initializers: { b: counting([2, 2]), c: floats([1, 2], [10, 20]) } },
      ),
      { a: floats([2, 1], [1, 2]) },
    );
    expect(dims).toEqual([1, 2]);
    expect(values).toEqual([19, 30]);
  });

  it("MatMul of vectors and of batches that broadcast", async () => {
    const dot = await run(single(node("MatMul", ["a", "b"], ["y"]), [[2], [2]]), {
      a: counting([2]),
      b: counting([2]),
    });
    expect(dot).toEqual({ dims: [], values: [5] });
    const batched = await run(single(node("MatMul", ["a", "b"], ["y"]), [[2, 1, 2], [2]]), {
      a: counting([2, 1, 2]),
      b: counting([2]),
    });
    expect(batched).toEqual({ dims: [2, 1], values: [5, 11] });
  });

  it.each([
    ["ij,jk->ik", [2, 2], [2, 2], [2, 2], [7, 10, 15, 22]],
    ["ij,kj", [1, 2], [2, 2], [1, 2], [5, 11]],
    ["...ij,...j->...i", [2, 1, 2], [2, 2], [2, 1], [5, 25]],
    ["ii,i->i", [2, 2], [2], [2], [1, 8]],
    ["ij,ik->j", [2, 2], [2, 1], [2], [7, 10]],
  ] as const)("Einsum %s", async (equation, a, b, dims, values) => {
    const made = await run(
      single(node("Einsum", ["a", "b"], ["y"], { equation: text(equation) }), [a, b]),
      { a: counting(a), b: counting(b) },
    );
    expect(made).toEqual({ dims, values });
  });

  it("Slice backwards, Split in unequal parts, Concat along channels of images", async () => {
    const backwards = await run(
      single(node("Slice", ["x", "s", "e", "a", "t"], ["y"]), [[3, 2]], {
        initializers: {
          s: int64s([1], [-1]),
          e: int64s([1], [Number.MIN_SAFE_INTEGER]),
          a: int64s([1], [0]),
          t: int64s([1], [-2]),
        },
      }),
      { x: counting([3, 2]) },
    );
    expect(backwards).toEqual({ dims: [2, 2], values: [5, 6, 1, 2] });
    const image = await run(
      {
        nodes: [
          node("Split", ["x"], ["a", "b"], { axis: int(1), num_outputs: int(2) }),
          node("MaxPool", ["a"], ["m"], { kernel_shape: ints(1, 1) }),
          node("Concat", ["b", "m"], ["y"], { axis: int(1) }),
        ],
        inputs: [info("x", [1, 3, 1, 2])],
        outputs: ["y"],
        opset: 18,
      },
      { x: counting([1, 3, 1, 2]) },
    );
    expect(image).toEqual({ dims: [1, 3, 1, 2], values: [5, 6, 1, 2, 3, 4] });
  });

  it("ArgMax takes the first place, or the last, and a NaN before all", async () => {
    const arg = (last: number, values: readonly number[]) =>
      run(
        single(
          node("ArgMax", ["x"], ["y"], {
            axis: int(0),
            keepdims: int(0),
            select_last_index: int(last),
          }),
          [[4]],
        ),
        { x: floats([4], values) },
      );
    expect(await arg(0, [1, 5, 5, 2])).toEqual({ dims: [], values: [1] });
    expect((await arg(1, [1, 5, 5, 2])).values).toEqual([2]);
    expect((await arg(0, [1, 5, Number.NaN, 2])).values).toEqual([2]);
  });

  it("constants that are not finite are made by the engine", async () => {
    const { values } = await run(
      single(node("Add", ["x", "c"], ["y"]), [[4]], {
        nodes: [
          node("Constant", [], ["c"], {
            value_floats: {
              kind: "floats",
              value: [1, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, Number.NaN],
            },
          }),
          node("Add", ["x", "c"], ["y"]),
        ],
        inputs: [info("x", [4])],
      }),
      { x: counting([4]) },
    );
    expect(values).toEqual([2, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, Number.NaN]);
  });
});
