import type { Initializer } from "../graph.js";
import type { LayerInit } from "../layer-options.js";

/** The perceptron's hidden layer, in multiples of the width. */
export const MLP_RATIO = 4;

/** What the two libraries call a parameter or module, and how they fill it. */
export interface VitNaming {
  readonly patches: string;
  readonly token: string;
  readonly positions: string;
  readonly norm: string;
  readonly head: string;
  readonly block: (i: number) => VitBlockNames;
  readonly fillings: (width: number, patchInputs: number) => VitFillings;
}

export interface VitBlockNames {
  /** The block's own name. */
  readonly block: string;
  readonly norm1: string;
  readonly norm2: string;
  /** The module of the attention, and the names of its fused weight (3D, D) and bias (3D). */
  readonly attention: string;
  readonly fusedWeight: string;
  readonly fusedBias: string;
  readonly projection: string;
  readonly mlp: readonly [string, string];
}

export interface VitFillings {
  readonly patches: LayerInit;
  readonly token: Initializer;
  readonly fused: Initializer;
  readonly projection: LayerInit;
  readonly mlp: LayerInit;
  readonly head: LayerInit;
}

const kZeros: Initializer = { kind: "zeros" };
const kSmallNormal: Initializer = { kind: "normal", std: 0.02 };
const kTiny: Initializer = { kind: "normal", std: 1e-6 };

function xavier(inputs: number, outputs: number): Initializer {
  return { kind: "uniform", bound: Math.sqrt(6 / (inputs + outputs)) };
}

/** torchvision.models.vision_transformer. */
const kTorchvision: VitNaming = {
  patches: "conv_proj",
  token: "class_token",
  positions: "encoder.pos_embedding",
  norm: "encoder.ln",
  head: "heads.head",
  block: (i) => {
    const block = `encoder.layers.encoder_layer_${i}`;
    const attention = `${block}.self_attention`;
    return {
      block,
      norm1: `${block}.ln_1`,
      norm2: `${block}.ln_2`,
      attention,
      fusedWeight: `${attention}.in_proj_weight`,
      fusedBias: `${attention}.in_proj_bias`,
      projection: `${attention}.out_proj`,
      mlp: [`${block}.mlp.0`, `${block}.mlp.3`],
    };
  },
  // Normals stand for its truncated ones, which are cut off at many deviations.
  fillings: (width, patchInputs) => ({
    patches: { weight: { kind: "normal", std: Math.sqrt(1 / patchInputs) }, bias: kZeros },
    token: kZeros,
    fused: xavier(width, 3 * width),
    projection: { bias: kZeros },
    mlp: { weight: xavier(width, MLP_RATIO * width), bias: kTiny },
    head: { weight: kZeros, bias: kZeros },
  }),
};

const kNormal: LayerInit = { weight: kSmallNormal, bias: kZeros };

/** timm.models.vision_transformer. */
const kTimm: VitNaming = {
  patches: "patch_embed.proj",
  token: "cls_token",
  positions: "pos_embed",
  norm: "norm",
  head: "head",
  block: (i) => {
    const block = `blocks.${i}`;
    return {
      block,
      norm1: `${block}.norm1`,
      norm2: `${block}.norm2`,
      attention: `${block}.attn`,
      fusedWeight: `${block}.attn.qkv.weight`,
      fusedBias: `${block}.attn.qkv.bias`,
      projection: `${block}.attn.proj`,
      mlp: [`${block}.mlp.fc1`, `${block}.mlp.fc2`],
    };
  },
  fillings: () => ({
    patches: {},
    token: kTiny,
    fused: kSmallNormal,
    projection: kNormal,
    mlp: kNormal,
    head: kNormal,
  }),
};

export type VitLibrary = "torchvision" | "timm";

export const VIT_NAMINGS: Readonly<Record<VitLibrary, VitNaming>> = {
  torchvision: kTorchvision,
  timm: kTimm,
};
