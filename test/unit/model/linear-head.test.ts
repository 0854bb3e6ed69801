import { describe, expect, it } from "vitest";
import { getArchitecture } from "../../../src/model/architectures.js";
import { GraphBuilder } from "../../../src/model/builder.js";
import { headParameters } from "../../../src/model/candidates.js";
import type { Graph } from "../../../src/model/graph.js";
import { linearHead } from "../../../src/model/linear-head.js";
import { expectError } from "../io/support.js";

const kCifar = { inputShape: [32, 32, 3], classes: 10 } as const;
const kDigits = { inputShape: [28, 28, 1], classes: 7 } as const;

describe("linearHead", () => {
  it.each([
    ["resnet20", kCifar, "linear", 64],
    ["vgg11_bn", kCifar, null, null],
    ["lenet", kDigits, null, null],
    ["mlp", kDigits, null, null],
  ] as const)("is the last layer of %s", (name, options, layer, width) => {
    const graph = getArchitecture(name).build(options);
    const head = linearHead(graph);
    const shapeOf = (of: string) => graph.parameters.find((p) => p.name === of)?.shape;
    expect(shapeOf(head.weight)).toEqual([options.classes, head.width]);
    expect(shapeOf(head.bias)).toEqual([options.classes]);
    expect(head.classes).toBe(options.classes);
    if (layer !== null) {
      expect(head).toMatchObject({ weight: `${layer}.weight`, bias: `${layer}.bias`, width });
    }
    const node = graph.nodes.find(({ outputs }) => outputs.includes(graph.outputs[0] ?? ""));
    expect(node?.inputs).toEqual([head.input]);
    expect(Object.values(node?.parameters ?? {}).sort()).toEqual([head.bias, head.weight].sort());
    // What excludeHead leaves out of the mask holds what a new head replaces.
    expect(headParameters(graph)).toEqual(expect.arrayContaining([head.weight, head.bias]));
  });

  function built(finish: (b: GraphBuilder, features: string) => string): Graph {
    const b = new GraphBuilder("odd");
    const x = b.flatten("flatten", b.input("input", [4, 4, 1]));
    return b.build([finish(b, b.linear("fc1", x, { out: 6 }))]);
  }

  it("refuses logits that another op makes, and a layer without a bias", async () => {
    const relu = built((b, x) => b.relu("relu", b.linear("fc2", x, { out: 3 })));
    await expectError(() => linearHead(relu), "ERR_FM_CONFIG", "odd", "relu");
    const bare = built((b, x) => b.linear("fc2", x, { out: 3, bias: false }));
    await expectError(() => linearHead(bare), "ERR_FM_CONFIG", "odd", "without");
  });

  it("refuses a weight or a bias that another layer has too", async () => {
    const graph = built((b, x) => b.linear("fc2", b.relu("relu", x), { out: 6 }));
    for (const name of ["weight", "bias"]) {
      const nodes = graph.nodes.map((node) =>
        node.name === "fc1"
          ? { ...node, parameters: { ...node.parameters, [name]: `fc2.${name}` } }
          : node,
      );
      await expectError(() => linearHead({ ...graph, nodes }), "ERR_FM_CONFIG", "shared");
    }
    expect(linearHead(graph).weight).toBe("fc2.weight");
  });
});
