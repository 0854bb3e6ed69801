import {
  type ArchitectureFamily,
  type ArchitectureOptions,
  defineArchitecture,
  FEATURES,
  imageShape,
  LOGITS,
} from "../architecture.js";
import { GraphBuilder } from "../builder.js";
import type { Graph, Initializer } from "../graph.js";
import { expected, shapeText } from "../graph-error.js";
import {
  MLP_RATIO,
  VIT_NAMINGS,
  type VitBlockNames,
  type VitFillings,
  type VitLibrary,
  type VitNaming,
} from "./vit-names.js";

/** What tells one vision transformer from another. */
export interface VitSize {
  /** Rows and columns of a patch. */
  readonly patch: number;
  readonly layers: number;
  readonly heads: number;
  readonly width: number;
}

const kEpsilon = 1e-6;
const kPositions: Initializer = { kind: "normal", std: 0.02 };

const kTinySize = { layers: 12, heads: 3, width: 192 } as const;
const kSmallSize = { layers: 12, heads: 6, width: 384 } as const;
const kBaseSize = { layers: 12, heads: 12, width: 768 } as const;
const kLargeSize = { layers: 24, heads: 16, width: 1024 } as const;

const kTorchvisionSizes: Readonly<Record<string, VitSize>> = {
  vit_b_16: { ...kBaseSize, patch: 16 },
  vit_b_32: { ...kBaseSize, patch: 32 },
  vit_l_16: { ...kLargeSize, patch: 16 },
};
const kTimmSizes: Readonly<Record<string, VitSize>> = {
  vit_tiny_patch16_224: { ...kTinySize, patch: 16 },
  vit_small_patch16_224: { ...kSmallSize, patch: 16 },
  vit_base_patch16_224: { ...kBaseSize, patch: 16 },
  vit_tiny_patch4_32: { ...kTinySize, patch: 4 },
  vit_small_patch4_32: { ...kSmallSize, patch: 4 },
};

/** (H, W, C) → (positions + 1, D): patches row by row behind the class token, positions added. */
function embed(
  b: GraphBuilder,
  x: string,
  size: VitSize,
  naming: VitNaming,
  init: VitFillings,
): string {
  const { patch, width } = size;
  const conv = { out: width, kernel: patch, stride: patch, init: init.patches };
  const image = b.conv2d(naming.patches, x, conv);
  const [rows = 0, columns = 0] = b.shapeOf(image);
  const length = rows * columns + 1;
  const token = b.parameter(naming.token, [1, 1, width], "embedding", init.token);
  const positions = b.parameter(naming.positions, [1, length, width], "embedding", kPositions);
  const first = b.parameterValue(naming.token, token);
  const patches = b.reshape(`${naming.patches}.rows`, image, { shape: [1, length - 1, width] });
  const all = b.concat("tokens", [first, patches], { axis: 1 });
  // The leading size of 1 is the parameters'; it goes once they are added.
  const placed = b.binaryAdd(naming.positions, all, { parameter: positions });
  return b.reshape("embedded", placed, { shape: [length, width] });
}

function attend(
  b: GraphBuilder,
  names: VitBlockNames,
  x: string,
  size: VitSize,
  init: VitFillings,
): string {
  const { heads, width } = size;
  const length = b.shapeOf(x)[0] as number;
  const shared = {
    weight: b.parameter(names.fusedWeight, [3 * width, width], "weight", init.fused),
    bias: b.parameter(names.fusedBias, [3 * width], "bias", { kind: "zeros" }),
  };
  const fused = b.linear(`${names.attention}.qkv`, x, { out: 3 * width, ...shared });
  const third = (which: string, i: number): string =>
    b.slice(`${names.attention}.${which}`, fused, {
      starts: [0, i * width],
      sizes: [length, width],
    });
  const inputs = { query: third("q", 0), key: third("k", 1), value: third("v", 2) };
  const mixed = b.attention(`${names.attention}.mix`, inputs, { heads });
  return b.linear(names.projection, mixed, { out: width, init: init.projection });
}

/** Normalised before attention and before the perceptron; both add to the stream. */
function encode(
  b: GraphBuilder,
  names: VitBlockNames,
  x: string,
  size: VitSize,
  init: VitFillings,
): string {
  const norm = { epsilon: kEpsilon };
  const seen = attend(b, names, b.layerNorm(names.norm1, x, norm), size, init);
  const sum = b.add(`${names.block}.add1`, [x, seen]);
  const inner = { out: MLP_RATIO * size.width, init: init.mlp };
  const wide = b.linear(names.mlp[0], b.layerNorm(names.norm2, sum, norm), inner);
  const active = b.gelu(`${names.block}.gelu`, wide);
  const outer = { out: size.width, init: init.mlp };
  return b.add(`${names.block}.add2`, [sum, b.linear(names.mlp[1], active, outer)]);
}

function checkPatches(options: ArchitectureOptions, patch: number): number {
  const [height, width, channels] = imageShape(options);
  if (height % patch === 0 && width % patch === 0) return patch * patch * channels;
  const what = `rows and columns in multiples of ${patch}`;
  throw expected("ERR_FM_ARGUMENT", what, "inputShape", shapeText(options.inputShape));
}

/**
 * A vision transformer of any size.
 *
 * @throws {@link FishermaskError} `ERR_FM_ARGUMENT` for an image that patches do not fill
 */
export function buildVit(
  name: string,
  library: VitLibrary,
  size: VitSize,
  options: ArchitectureOptions,
): Graph {
  const naming = VIT_NAMINGS[library];
  const init = naming.fillings(size.width, checkPatches(options, size.patch));
  const b = new GraphBuilder(name);
  let x = embed(b, b.input("input", options.inputShape), size, naming, init);
  for (let i = 0; i < size.layers; i += 1) x = encode(b, naming.block(i), x, size, init);
  x = b.layerNorm(naming.norm, x, { epsilon: kEpsilon });
  const first = b.slice("first", x, { starts: [0, 0], sizes: [1, size.width] });
  b.reshape("token", first, { shape: [size.width], output: FEATURES });
  const head = { out: options.classes, init: init.head, output: LOGITS };
  return b.build([b.linear(naming.head, FEATURES, head), FEATURES]);
}

function family(
  library: VitLibrary,
  sizes: Readonly<Record<string, VitSize>>,
  summary: string,
): ArchitectureFamily {
  return defineArchitecture({
    names: Object.keys(sizes),
    summary,
    build: (options, name) => buildVit(name, library, sizes[name] as VitSize, options),
  });
}

/**
 * Vision transformers under torchvision's names: class_token, conv_proj, encoder.pos_embedding,
 * encoder.layers.encoder_layer_0.self_attention.in_proj_weight, …, heads.head. Any image whose sides are multiples of the
 * patch: the position embedding has one row for each patch and one for the class token, and a file's must match.
 *
 * Source: Dosovitskiy et al., "An image is worth 16x16 words", arXiv:2010.11929; torchvision.models.vision_transformer.
 */
export const torchvisionVit = family(
  "torchvision",
  kTorchvisionSizes,
  "torchvision's vision transformer, base or large; the number is the patch's side",
);

/**
 * Vision transformers under timm's names: cls_token, pos_embed, patch_embed.proj, blocks.0.attn.qkv, …, head. The 224 in
 * a name is the size that timm's weights are for; like all, it takes any image whose sides are multiples of the patch.
 * vit_tiny_patch4_32 and vit_small_patch4_32 are timm's tiny and small with img_size=32, patch_size=4, for CIFAR.
 *
 * Source: as above, arXiv:2010.11929; Touvron et al., "Training data-efficient image transformers", arXiv:2012.12877, for
 * tiny and small; timm.models.vision_transformer.
 */
export const timmVit = family(
  "timm",
  kTimmSizes,
  "timm's vision transformer with the class token's features",
);
