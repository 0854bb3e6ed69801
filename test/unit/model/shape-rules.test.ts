import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { inferShape, type ShapeContext } from "../../../src/model/shape-rules.js";
import { readHeader } from "./safetensors-fixture.js";

const kFolder = "test/fixtures/parity/ops";
const kCases = (
  JSON.parse(readFileSync(`${kFolder}/cases.json`, "utf8")) as { cases: ShapeContext[] }
).cases.filter((node) => node.op !== "cross_entropy");

describe("inferShape", () => {
  it.each(kCases)("gives PyTorch's sizes: $name", (node) => {
    const output = readHeader(`${kFolder}/${node.op}.safetensors`).get(`${node.name}/output0`);
    expect(inferShape(node)).toEqual(output?.shape.slice(1));
  });

  it("knows nothing of other ops", () => {
    const node = { name: "n", op: "toString", inputs: [[1]], parameters: {}, attributes: {} };
    expect(inferShape(node)).toBeUndefined();
  });
});
