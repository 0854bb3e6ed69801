import type { AttributeValue, Initializer, ParameterRole } from "./graph.js";
import { expected, shapeText } from "./graph-error.js";
import {
  type AffineOptions,
  type AttentionInputs,
  type AttentionOptions,
  type AvgPoolOptions,
  type BatchNormOptions,
  type ConcatOptions,
  type Conv2dOptions,
  type ConvTranspose2dOptions,
  type DropoutOptions,
  type EmbeddingOptions,
  type GeluOptions,
  type GroupNormOptions,
  type HardSigmoidOptions,
  type LayerInit,
  type LayerNormOptions,
  type LinearOptions,
  type MatmulOptions,
  type MaxPoolOptions,
  type Operand,
  type Pad2dOptions,
  type PlainOptions,
  type PoolOptions,
  pair,
  type ReshapeOptions,
  type RmsNormOptions,
  type RopeOptions,
  type SliceOptions,
  type SoftmaxOptions,
  sides,
  type TransposeOptions,
} from "./layer-options.js";
import { NodeBuilder } from "./node-builder.js";
import type { Shape } from "./shape-rules.js";

export type { NodeOptions } from "./node-builder.js";

// PyTorch's kaiming_uniform_(a = √5) is a gain of √(2 / (1 + 5)).
const kPyTorchWeight: Initializer = { kind: "kaiming-uniform", gain: Math.sqrt(1 / 3) };

/** The attributes that are given; what is undefined is left to the engine. */
function defined(
  attributes: Readonly<Record<string, AttributeValue | undefined>>,
): Record<string, AttributeValue> {
  return Object.fromEntries(
    Object.entries(attributes).filter((entry): entry is [string, AttributeValue] => {
      return entry[1] !== undefined;
    }),
  );
}

/**
 * Builds a {@link Graph} layer by layer. Layer methods take and return names of values, follow per-sample shapes, and
 * declare parameters under PyTorch's names: `conv1` owns `conv1.weight` and `conv1.bias`. What each op computes stands in
 * docs/ops.md.
 *
 * Every method throws {@link FishermaskError}: `ERR_FM_GRAPH` for a name that is taken or unknown, `ERR_FM_SHAPE` for
 * sizes that do not fit, `ERR_FM_ARGUMENT` for a size that is no whole number from 1.
 *
 * @example
 * const b = new GraphBuilder("tiny");
 * const x = b.input("input", [8, 8, 3]);
 * const y = b.globalAvgPool("pool", b.relu("relu1", b.conv2d("conv1", x, { out: 4, kernel: 3 })));
 * const graph = b.build([b.linear("fc", y, { out: 10, output: "logits" })]);
 */
export class GraphBuilder extends NodeBuilder {
  /**
   * y = x·Wᵀ + b on the last size of x: (…, in) → (…, out). `weight` and a name as `bias` take parameters that exist: the
   * same values as elsewhere (a head tied to its embedding).
   */
  linear(name: string, x: string, options: LinearOptions): string {
    const width = this.shapeOf(x).at(-1) ?? 0;
    const parameters = this.weightAndBias(name, [options.out, width], options);
    return this.layer("linear", name, x, options, { parameters });
  }

  /** (H, W, C_in) → (H', W', C_out), weight (C_out, C_in/groups, K_h, K_w). */
  conv2d(name: string, x: string, options: Conv2dOptions): string {
    const groups = options.groups ?? 1;
    const perGroup = (this.shapeOf(x)[2] ?? 0) / groups;
    const shape = [options.out, perGroup, ...pair(options.kernel)];
    return this.layer("conv2d", name, x, options, {
      parameters: this.weightAndBias(name, shape, options),
      attributes: {
        stride: pair(options.stride ?? 1),
        padding: sides(options.padding ?? 0),
        dilation: pair(options.dilation ?? 1),
        groups,
      },
    });
  }

  /** (H, W, C_in) → (H', W', C_out), weight (C_in, C_out/groups, K_h, K_w). */
  convTranspose2d(name: string, x: string, options: ConvTranspose2dOptions): string {
    const groups = options.groups ?? 1;
    const kernel = pair(options.kernel);
    const shape = [this.shapeOf(x)[2] ?? 0, options.out / groups, ...kernel];
    return this.layer("conv_transpose2d", name, x, options, {
      parameters: this.weightAndBias(name, shape, options, options.out),
      attributes: {
        stride: pair(options.stride ?? 1),
        padding: sides(options.padding ?? 0),
        output_padding: pair(options.outputPadding ?? 0),
        dilation: pair(options.dilation ?? 1),
        groups,
      },
    });
  }

  /** Over the last size (channels): weight 1, bias 0, running_mean 0, running_var 1 at first. */
  batchNorm(name: string, x: string, options: BatchNormOptions = {}): string {
    const shape = [this.shapeOf(x).at(-1) ?? 0];
    const own = (slot: string, role: ParameterRole, kind: "ones" | "zeros"): string =>
      this.parameter(`${name}.${slot}`, shape, role, { kind });
    return this.layer("batch_norm", name, x, options, {
      parameters: {
        weight: own("weight", "norm", "ones"),
        bias: own("bias", "norm", "zeros"),
        running_mean: own("running_mean", "buffer", "zeros"),
        running_var: own("running_var", "buffer", "ones"),
      },
      attributes: { epsilon: options.epsilon ?? 1e-5, momentum: options.momentum ?? 0.1 },
    });
  }

  /** Over the last `dims` sizes (1): weight 1 and, but for `bias: false`, bias 0 of these sizes. */
  layerNorm(name: string, x: string, options: LayerNormOptions = {}): string {
    const { dims = 1, epsilon = 1e-5 } = options;
    const parameters = this.normParameters(name, this.shapeOf(x).slice(-dims), options);
    return this.layer("layer_norm", name, x, options, {
      parameters,
      attributes: { epsilon, dims },
    });
  }

  /** x / √(mean x² + ε) · weight over the last size; no bias. */
  rmsNorm(name: string, x: string, options: RmsNormOptions = {}): string {
    const parameters = this.normParameters(name, this.shapeOf(x).slice(-1), { bias: false });
    const attributes = { epsilon: options.epsilon ?? 1e-6, dims: 1 };
    return this.layer("rms_norm", name, x, options, { parameters, attributes });
  }

  /** Channels last; `groups` equal to the channels is instance norm. */
  groupNorm(name: string, x: string, options: GroupNormOptions): string {
    const parameters = this.normParameters(name, this.shapeOf(x).slice(-1), options);
    const attributes = { groups: options.groups, epsilon: options.epsilon ?? 1e-5 };
    return this.layer("group_norm", name, x, options, { parameters, attributes });
  }

  /** i32 ids (T…) → (T…, width): rows of `<name>.weight` (count, width), or of an existing `weight`. */
  embedding(name: string, ids: string, options: EmbeddingOptions): string {
    const { count, width, init = { kind: "normal", std: 1 } } = options;
    const shape = [count, width];
    const weight = options.weight ?? this.parameter(`${name}.weight`, shape, "embedding", init);
    this.checkShared(weight, shape);
    return this.layer("embedding", name, ids, options, { parameters: { weight } });
  }

  /** Query (T, H·d), key (S, G·d), value (S, G·e), mask (T, S) or (S)? → (T, H·e). */
  attention(name: string, inputs: AttentionInputs, options: AttentionOptions): string {
    const { query, key, value, mask } = inputs;
    const attributes = defined({
      heads: options.heads,
      kv_heads: options.kvHeads ?? options.heads,
      causal: options.causal ?? false,
      scale: options.scale,
    });
    const values = mask === undefined ? [query, key, value] : [query, key, value, mask];
    return this.layer("attention", name, values, options, { attributes });
  }

  /** Rotates pairs within each head by position · frequency: (T, H·d) → same. */
  rope(name: string, x: string, options: RopeOptions): string {
    const attributes = {
      heads: options.heads,
      interleaved: options.interleaved ?? false,
      frequencies: options.frequencies,
      scale: options.scale ?? 1,
    };
    return this.layer("rope", name, x, options, { attributes });
  }

  /** i32 ids (T) → (T): 0 where there is a token, −1e9 where there is padding (an id below 0). */
  padMask(name: string, ids: string, options: PlainOptions = {}): string {
    return this.layer("pad_mask", name, ids, options);
  }

  relu(name: string, x: string, options: PlainOptions = {}): string {
    return this.layer("relu", name, x, options);
  }

  /** "none": x·Φ(x), exact; "tanh": its approximation. */
  gelu(name: string, x: string, options: GeluOptions = {}): string {
    const attributes = { approximate: options.approximate ?? "none" };
    return this.layer("gelu", name, x, options, { attributes });
  }

  /** x·sigmoid(x), also named swish. */
  silu(name: string, x: string, options: PlainOptions = {}): string {
    return this.layer("silu", name, x, options);
  }

  sigmoid(name: string, x: string, options: PlainOptions = {}): string {
    return this.layer("sigmoid", name, x, options);
  }

  tanh(name: string, x: string, options: PlainOptions = {}): string {
    return this.layer("tanh", name, x, options);
  }

  /** x·clip(x/6 + 1/2, 0, 1). */
  hardSwish(name: string, x: string, options: PlainOptions = {}): string {
    return this.layer("hard_swish", name, x, options);
  }

  /** clip(alpha·x + beta, 0, 1), with PyTorch's 1/6 and 1/2 where left out (ONNX's alpha is 0.2). */
  hardSigmoid(name: string, x: string, options: HardSigmoidOptions = {}): string {
    const attributes = { alpha: options.alpha ?? 1 / 6, beta: options.beta ?? 0.5 };
    return this.layer("hard_sigmoid", name, x, options, { attributes });
  }

  /** scale·x + shift, two numbers. */
  affine(name: string, x: string, options: AffineOptions): string {
    const attributes = { scale: options.scale ?? 1, shift: options.shift ?? 0 };
    return this.layer("affine", name, x, options, { attributes });
  }

  softmax(name: string, x: string, options: SoftmaxOptions = {}): string {
    return this.layer("softmax", name, x, options, { attributes: { axis: options.axis ?? -1 } });
  }

  /** Padding never wins: it counts as −∞. */
  maxPool2d(name: string, x: string, options: MaxPoolOptions): string {
    const dilation = pair(options.dilation ?? 1);
    const attributes = { ...this.poolAttributes(options), dilation };
    return this.layer("max_pool2d", name, x, options, { attributes });
  }

  avgPool2d(name: string, x: string, options: AvgPoolOptions): string {
    const counted = options.countIncludePad ?? true;
    const attributes = { ...this.poolAttributes(options), count_include_pad: counted };
    return this.layer("avg_pool2d", name, x, options, { attributes });
  }

  /** (H, W, C) → (C,), the mean over positions. */
  globalAvgPool(name: string, x: string, options: PlainOptions = {}): string {
    return this.layer("global_avg_pool", name, x, options);
  }

  /** The sum of values of one shape. */
  add(name: string, inputs: readonly string[], options: PlainOptions = {}): string {
    return this.layer("add", name, inputs, options);
  }

  concat(name: string, inputs: readonly string[], options: ConcatOptions): string {
    return this.layer("concat", name, inputs, options, { attributes: { axis: options.axis } });
  }

  /** x + other with NumPy's broadcasting, e.g. a position embedding: `{ parameter: "pos_embed" }`. */
  binaryAdd(name: string, x: string, other: Operand, options: PlainOptions = {}): string {
    return this.withOther("binary_add", name, x, other, options);
  }

  /** x · other elementwise, with NumPy's broadcasting. */
  mul(name: string, x: string, other: Operand, options: PlainOptions = {}): string {
    return this.withOther("mul", name, x, other, options);
  }

  /** (…, M, K) · (…, K, N); a weight that is stored (in, out), as GPT-2's, is a parameter here. */
  matmul(name: string, x: string, other: Operand, options: MatmulOptions = {}): string {
    const attributes = {
      transpose_a: options.transposeA ?? false,
      transpose_b: options.transposeB ?? false,
    };
    return this.withOther("matmul", name, x, other, options, attributes);
  }

  /** A declared parameter as a value, the same for every sample: a class token. */
  parameterValue(name: string, parameter: string, options: PlainOptions = {}): string {
    return this.layer("parameter", name, [], options, { parameters: { value: parameter } });
  }

  /** The same values in row-major order under other sizes; none may be −1. */
  reshape(name: string, x: string, options: ReshapeOptions): string {
    return this.layer("reshape", name, x, options, { attributes: { shape: options.shape } });
  }

  /** Size i of the result is size perm[i] of x. */
  transpose(name: string, x: string, options: TransposeOptions): string {
    return this.layer("transpose", name, x, options, { attributes: { perm: options.perm } });
  }

  /** y[i] = x[starts + i·steps], for `sizes` values along each size of the sample. */
  slice(name: string, x: string, options: SliceOptions): string {
    const { starts, sizes, steps = starts.map(() => 1) } = options;
    return this.layer("slice", name, x, options, { attributes: { starts, steps, sizes } });
  }

  /** (H, W, C) → (C·H·W,) in the order of PyTorch's (C, H, W), so that its linear weights fit. */
  flatten(name: string, x: string, options: PlainOptions = {}): string {
    return this.layer("flatten", name, x, options);
  }

  /** Takes every step-th row and column, then pads rows, columns and channels with a value. */
  pad2d(name: string, x: string, options: Pad2dOptions): string {
    const attributes = {
      padding: sides(options.padding ?? 0),
      channels: options.channels ?? [0, 0],
      step: pair(options.step ?? 1),
      value: options.value ?? 0,
    };
    return this.layer("pad2d", name, x, options, { attributes });
  }

  dropout(name: string, x: string, options: DropoutOptions): string {
    if (!(options.rate >= 0 && options.rate < 1)) {
      throw expected("ERR_FM_ARGUMENT", "a share from 0 to below 1", `${name}.rate`, options.rate);
    }
    return this.layer("dropout", name, x, options, { attributes: { rate: options.rate } });
  }

  private withOther(
    op: string,
    name: string,
    x: string,
    other: Operand,
    options: PlainOptions,
    attributes: Record<string, AttributeValue> = {},
  ): string {
    if (typeof other === "string") return this.layer(op, name, [x, other], options, { attributes });
    const parameters = { other: other.parameter };
    return this.layer(op, name, x, options, { parameters, attributes });
  }

  private weightAndBias(
    name: string,
    shape: Shape,
    options: { weight?: string; bias?: boolean | string; init?: LayerInit },
    outputs = shape[0] as number,
  ): Record<string, string> {
    const { init = {} } = options;
    const fanIn = shape.slice(1).reduce((product, size) => product * size, 1);
    const filling = init.weight ?? kPyTorchWeight;
    const weight = options.weight ?? this.parameter(`${name}.weight`, shape, "weight", filling);
    this.checkShared(weight, shape);
    if (options.bias === false) return { weight };
    if (typeof options.bias === "string") return { weight, bias: options.bias };
    const filled = init.bias ?? { kind: "uniform", bound: 1 / Math.sqrt(fanIn) };
    return {
      weight,
      bias: this.parameter(`${name}.bias`, [outputs], "bias", filled),
    };
  }

  private checkShared(weight: string, shape: Shape): void {
    const received = shapeText(this.parameterShape(weight));
    if (received === shapeText(shape)) return;
    throw expected("ERR_FM_SHAPE", shapeText(shape), `parameter ${weight}`, received);
  }

  private normParameters(
    name: string,
    shape: Shape,
    options: { affine?: boolean; bias?: boolean },
  ): Record<string, string> {
    if (options.affine === false) return {};
    const weight = this.parameter(`${name}.weight`, shape, "norm", { kind: "ones" });
    if (options.bias === false) return { weight };
    return { weight, bias: this.parameter(`${name}.bias`, shape, "norm", { kind: "zeros" }) };
  }

  private poolAttributes(options: PoolOptions): Record<string, AttributeValue> {
    return {
      kernel: pair(options.kernel),
      stride: pair(options.stride ?? options.kernel),
      padding: sides(options.padding ?? 0),
    };
  }
}
