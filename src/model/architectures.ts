import type { ArchitectureFamily, ArchitectureOptions } from "./architecture.js";
import { architecture as densenet } from "./architectures/densenet.js";
import { architecture as densenetCifar } from "./architectures/densenet-cifar.js";
import { architecture as googlenet } from "./architectures/googlenet.js";
import { architecture as googlenetCifar } from "./architectures/googlenet-cifar.js";
import { architecture as lenet } from "./architectures/lenet.js";
import { architecture as mlp } from "./architectures/mlp.js";
import { architecture as resnet } from "./architectures/resnet.js";
import { architecture as torchvisionResnet } from "./architectures/torchvision-resnet.js";
import { architecture as vgg } from "./architectures/vgg.js";
import { timmVit, torchvisionVit } from "./architectures/vit.js";
import type { Graph } from "./graph.js";
import { expected } from "./graph-error.js";

/** One network by its name. */
export interface Architecture {
  readonly name: string;
  /** One sentence for the help text. */
  readonly summary: string;
  /** The name of the value that the head reads, the graph's second output. */
  readonly features: string;
  /** @throws {@link FishermaskError} `ERR_FM_ARGUMENT` for options that the network does not take */
  readonly build: (options: ArchitectureOptions) => Graph;
}

const kFamilies: readonly ArchitectureFamily[] = [
  mlp,
  lenet,
  resnet,
  torchvisionResnet,
  vgg,
  densenet,
  densenetCifar,
  googlenet,
  googlenetCifar,
  torchvisionVit,
  timmVit,
];

/** Every network that `getArchitecture` knows. */
export const architectures: ReadonlyMap<string, Architecture> = new Map(
  kFamilies.flatMap(({ names, summary, features, build }) =>
    names.map((name): [string, Architecture] => [
      name,
      { name, summary, features, build: (options) => build(options, name) },
    ]),
  ),
);

/**
 * @throws {@link FishermaskError} `ERR_FM_ARGUMENT` listing the known names
 *
 * @example
 * const graph = getArchitecture("resnet20").build({ inputShape: [32, 32, 3], classes: 10 });
 */
export function getArchitecture(name: string): Architecture {
  const found = architectures.get(name);
  if (found !== undefined) return found;
  const known = [...architectures.keys()].join(", ");
  throw expected("ERR_FM_ARGUMENT", `one of ${known}`, "architecture", `"${name}"`);
}
