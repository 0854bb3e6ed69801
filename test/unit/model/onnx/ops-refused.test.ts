import { describe, expect, it } from "vitest";
import { FishermaskError } from "../../../../src/native/errors.js";
import { counting, floats, int64, type NodeOptions, runNode, tensor } from "./node-support.js";

/** What an import says that it received. */
async function refusal(
  opType: string,
  inputs: Parameters<typeof runNode>[1],
  options?: NodeOptions,
): Promise<string> {
  const error = await runNode(opType, inputs, options).then(
    () => expect.fail(`${opType} was imported`),
    (reason: unknown) => reason,
  );
  if (!(error instanceof FishermaskError)) throw error;
  expect(error.code).toBe("ERR_FM_UNSUPPORTED");
  expect(error.message).toContain(`the_${opType} (${opType})`);
  return error.message;
}

const q = counting([1, 2, 3, 4]);

describe("operators that are refused by name", () => {
  it.each([
    ["Mod", [floats([1], [1]), floats([1], [1])], {}, "fmod"],
    ["Resize", [q, null, floats([4], [1, 1, 2, 2])], { attributes: { mode: "area" } }, "area"],
    [
      "Pad",
      [q, int64([8], [0, 0, 0, 0, 0, 0, 0, 0])],
      { attributes: { mode: "mirror" } },
      "mirror",
    ],
    ["Gather", [q, int64([1], [9])], {}, "index"],
    ["SpaceToDepth", [q], { attributes: { blocksize: 2n } }, "sizes"],
    ["Trilu", [floats([1], [1])], {}, "matrix"],
    ["Compress", [floats([1], [1]), tensor("bool", [2], [1, 1])], {}, "conditions"],
    ["ReduceSum", [q, int64([1], [4])], {}, "axis"],
    ["Gelu", [q], { attributes: { approximate: "sigmoid" }, opset: 20 }, "sigmoid"],
    ["NegativeLogLikelihoodLoss", [floats([1, 2], [0, 0]), int64([1], [2])], {}, "index"],
    [
      "LSTM",
      [counting([1, 1, 2]), counting([1, 4, 3]), counting([1, 4, 1])],
      {},
      "weights of sizes",
    ],
    ["OneHot", [int64([1], [0]), int64([], [2]), floats([1, 1, 3], [0, 1, 2])], {}, "off and on"],
    ["TopK", [counting([600]), int64([1], [1])], {}, "600"],
  ] as const)("%s", async (opType, inputs, options, word) => {
    expect(await refusal(opType, inputs, options as NodeOptions)).toContain(word);
  });

  it("an LSTM whose gates are coupled, and activations with parameters", async () => {
    const inputs = [counting([1, 1, 1]), counting([1, 4, 1]), counting([1, 4, 1])];
    const coupled = { attributes: { input_forget: 1n } };
    expect(await refusal("LSTM", inputs, coupled)).toContain("coupled");
    const alpha = { attributes: { activation_alpha: [0.5] } };
    expect(await refusal("LSTM", inputs, alpha)).toContain("parameters");
  });

  it("attention where ONNX's versions disagree", async () => {
    const opset = 23;
    const cap = { opset, attributes: { softcap: 2 } };
    const mask = floats([3, 3], [0, 0, 0, 0, 0, 0, 0, 0, 0]);
    expect(await refusal("Attention", [q, q, q, mask], cap)).toContain("softcap");
    const hidden = tensor("bool", [3, 3], [0, 0, 0, 1, 1, 1, 1, 1, 1]);
    expect(await refusal("Attention", [q, q, q, hidden], { opset })).toContain("hides every key");
    const four = counting([1, 4, 3, 4]);
    expect(await refusal("Attention", [four, q, q], { opset })).toContain("4 query heads");
    const causal = { opset, attributes: { is_causal: 1n } };
    expect(await refusal("Attention", [q, q, q, null, q, q], causal)).toContain("earlier keys");
  });

  it("integers that only the engine could compute", async () => {
    const base = tensor("int32", [1], [2]);
    expect(await refusal("Pow", [base, { array: floats([1], [2]) }])).toContain("int32");
  });
});
