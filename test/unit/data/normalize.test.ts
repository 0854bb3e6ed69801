import { describe, expect, it } from "vitest";
import { parseNormalization } from "../../../src/data/normalize.js";
import { expectError } from "../io/support.js";

describe("parseNormalization", () => {
  it("knows the named ones", () => {
    expect(parseNormalization("imagenet", 3)).toEqual({
      divisor: 255,
      mean: [0.485, 0.456, 0.406],
      std: [0.229, 0.224, 0.225],
    });
    expect(parseNormalization("cifar10", 3)).toEqual({
      divisor: 255,
      mean: [0.4914, 0.4822, 0.4465],
      std: [0.247, 0.2435, 0.2616],
    });
    expect(parseNormalization("none", 2)).toEqual({ divisor: 255, mean: [0, 0], std: [1, 1] });
    expect(parseNormalization("raw", 1)).toEqual({ divisor: 1, mean: [0], std: [1] });
  });

  it("reads numbers", () => {
    const grey = { divisor: 255, mean: [0.1307], std: [0.3081] };
    expect(parseNormalization("0.1307/0.3081", 1)).toEqual(grey);
    const colour = { divisor: 255, mean: [0, -1, 0.5], std: [1, 2, 1e-3] };
    expect(parseNormalization("0, -1,.5/1,2,1e-3", 3)).toEqual(colour);
  });

  it.each([
    "",
    "mnist",
    "0.5",
    "1/2/3",
    "1,2/3",
    "a/1",
    "/1",
    "1/",
    "1/0",
    "1/-1",
    "Infinity/1",
    "1,/1,1",
  ])("refuses %j", async (text) => {
    await expectError(
      () => parseNormalization(text, 1),
      "ERR_FM_ARGUMENT",
      "imagenet",
      `"${text}"`,
    );
  });

  it("refuses another number of channels", async () => {
    await expectError(
      () => parseNormalization("imagenet", 1),
      "ERR_FM_ARGUMENT",
      "imagenet (3)",
      "(1)",
    );
    await expectError(() => parseNormalization("0/1", 3), "ERR_FM_ARGUMENT", "0/1 (1)", "(3)");
  });
});
