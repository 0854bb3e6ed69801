import { describe, expect, it } from "vitest";
import { getArchitecture } from "../../../src/model/architectures.js";
import { matchStateDict, type TensorDescription } from "../../../src/model/state-dict.js";
import { expectError } from "./errors.js";
import { modelFile, readHeader } from "./safetensors-fixture.js";

const kGraph = getArchitecture("resnet20").build({ inputShape: [32, 32, 3], classes: 10 });

function stateDict(): Map<string, TensorDescription> {
  return new Map(kGraph.parameters.map(({ name, shape }) => [name, { shape, dtype: "F32" }]));
}

describe("matchStateDict", () => {
  it("accepts the published file", ({ skip }) => {
    const { path, absent } = modelFile("resnet20-12fca82f.safetensors");
    if (absent !== undefined) return skip(absent);
    const match = matchStateDict(kGraph, readHeader(path));
    expect(match.parameters).toEqual(kGraph.parameters.map((p) => p.name));
    expect(match.kept).toEqual([]);
  });

  it("keeps batch counters where there are some", () => {
    const tensors = stateDict().set("bn1.num_batches_tracked", { shape: [], dtype: "I64" });
    expect(matchStateDict(kGraph, tensors).kept).toEqual(["bn1.num_batches_tracked"]);
  });

  it("keeps heads that serve training alone, of the network that has them and of no other", () => {
    const aux = { "aux1.fc1.weight": { shape: [1024, 2048], dtype: "F32" } };
    const graph = getArchitecture("googlenet").build({ inputShape: [64, 64, 3], classes: 10 });
    const own = graph.parameters.map(({ name, shape }) => [name, { shape, dtype: "F32" }] as const);
    const tensors = new Map([...own, ...Object.entries(aux)]);
    expect(matchStateDict(graph, tensors).kept).toEqual(["aux1.fc1.weight"]);
    const other = new Map([...stateDict(), ...Object.entries(aux)]);
    expectError(() => matchStateDict(kGraph, other), "ERR_FM_MISMATCH", "aux1.fc1.weight");
  });

  it("names what is missing, unexpected and of another shape or type", () => {
    const tensors = stateDict();
    tensors.delete("bn1.bias");
    tensors.set("conv1.weight", { shape: [16, 3, 5, 5], dtype: "F32" });
    tensors.set("linear.bias", { shape: [10], dtype: "I32" });
    tensors.set("fc.num_batches_tracked.weight", { shape: [3], dtype: "F32" });
    const error = expectError(
      () => matchStateDict(kGraph, tensors, "model.safetensors"),
      "ERR_FM_MISMATCH",
      "resnet20 for model.safetensors",
      "bn1.bias (16) is missing",
      "conv1.weight is expected to be (16, 3, 3, 3) but is (16, 3, 5, 5)",
      "linear.bias is expected to be of a floating type but is I32",
      "fc.num_batches_tracked.weight (3) is unexpected",
    );
    expect(error.message).not.toContain("more");
    expect(error.details).toMatchObject({ problems: { length: 4 } });
  });

  it("names five tensors at most", () => {
    const error = expectError(
      () => matchStateDict(kGraph, new Map()),
      "ERR_FM_MISMATCH",
      "conv1.weight",
      "the state dict",
      `; and ${kGraph.parameters.length - 5} more`,
    );
    expect(error.message.match(/is missing/g)).toHaveLength(5);
    expect(error.details).toMatchObject({ problems: { length: kGraph.parameters.length } });
  });
});
