import { checkChoice } from "../native/choice.js";
import { getArchitecture } from "./architectures.js";
import type { Graph } from "./graph.js";
import { ConfigReader } from "./huggingface/config-reader.js";
import { buildGpt2 } from "./huggingface/gpt2.js";

const kClasses = 10;
const kImage = [32, 32, 3] as const;

/** GPT-2 of 6 layers. */
const kGpt6 = {
  vocab_size: 8192,
  n_embd: 384,
  n_head: 6,
  n_layer: 6,
  n_positions: 128,
} as const;

function ofImages(architecture: string, inputShape: readonly number[] = kImage): () => Graph {
  return () => getArchitecture(architecture).build({ inputShape, classes: kClasses });
}

function gpt6(tied: boolean): () => Graph {
  return () => {
    const config = new Map(Object.entries({ ...kGpt6, tie_word_embeddings: tied }));
    const options = {
      sequenceLength: kGpt6.n_positions,
      tensors: new Set(["transformer.wte.weight"]),
    };
    return buildGpt2(new ConfigReader("bench", config), options).graph;
  };
}

const NETWORKS: ReadonlyMap<string, () => Graph> = new Map([
  ["resnet20", ofImages("resnet20")],
  ["resnet18", ofImages("resnet18_cifar")],
  ["vgg16_bn", ofImages("vgg16_bn")],
  ["vit_tiny", ofImages("vit_tiny_patch4_32")],
  ["gpt6", gpt6(false)],
  ["gpt6_tied", gpt6(true)],
  ["lenet", ofImages("lenet", [28, 28, 1])],
]);

/** The networks that benchmarks run: images of 32 × 32 (lenet: 28 × 28) in 10 classes, or 128 tokens of 8192. */
export const BENCH_NETWORKS: readonly string[] = [...NETWORKS.keys()];

/** @throws {@link FishermaskError} `ERR_FM_ARGUMENT` listing the known networks */
export function benchNetwork(name: string): Graph {
  checkChoice("the network", name, BENCH_NETWORKS);
  return (NETWORKS.get(name) as () => Graph)();
}

// Between the three hidden layers lie nearly all weights; rounding to eights and the ends add a little.
const kSmallestWidth = 512;
const kWidthStep = 8;
const kMlpInput = 64;

/**
 * Networks of three hidden layers whose numbers of parameters double, for cost against size.
 *
 * @param steps how many, from 1
 */
export function doublingNetworks(steps: number): readonly Graph[] {
  return Array.from({ length: steps }, (_, step) => {
    const width = kWidthStep * Math.round((kSmallestWidth * 2 ** (step / 2)) / kWidthStep);
    const hidden = [width, width, width];
    const options = { inputShape: [kMlpInput], classes: kClasses, hidden };
    return { ...getArchitecture("mlp").build(options), name: `mlp-${width}` };
  });
}
