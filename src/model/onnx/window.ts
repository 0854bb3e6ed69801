import type { NodeContext } from "./context.js";

/** How a window slides over the places of (N, C, spatial…); one number per spatial axis. */
export interface Window {
  readonly kernel: readonly number[];
  readonly stride: readonly number[];
  readonly dilation: readonly number[];
  /** Padding in front of and behind each axis. */
  readonly before: readonly number[];
  readonly after: readonly number[];
  /** Sizes of the result. */
  readonly out: readonly number[];
  /** How far the last window reaches beyond the padding (ceil_mode). */
  readonly beyond: readonly number[];
}

function counts(
  node: NodeContext,
  name: string,
  length: number,
  fallback: number,
  least: number,
): readonly number[] {
  const values = node.ints(name) ?? Array.from({ length }, () => fallback);
  if (values.length !== length || values.some((value) => value < least)) {
    node.refuse(`${name} [${values.join(", ")}] for ${length} axes`);
  }
  return values;
}

function samePadding(total: number, upper: boolean): readonly [number, number] {
  const small = Math.floor(total / 2);
  return upper ? [small, total - small] : [total - small, small];
}

/**
 * The window of a convolution or pool from its attributes.
 *
 * @throws {@link FishermaskError} `ERR_FM_UNSUPPORTED` for attributes that do not fit and windows larger than the input
 */
export function windowOf(
  node: NodeContext,
  spatial: readonly number[],
  kernel: readonly number[],
  options: { readonly ceil?: boolean } = {},
): Window {
  const rank = spatial.length;
  const stride = counts(node, "strides", rank, 1, 1);
  const dilation = counts(node, "dilations", rank, 1, 1);
  const pads = counts(node, "pads", 2 * rank, 0, 0);
  const mode = node.string("auto_pad", "NOTSET");
  if (!["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"].includes(mode)) {
    node.refuse(`auto_pad ${mode}`);
  }
  if (kernel.length !== rank) node.refuse(`a kernel of ${kernel.length} sizes for ${rank} axes`);
  const axes = spatial.map((size, i) => {
    const step = stride[i] as number;
    const reach = ((kernel[i] as number) - 1) * (dilation[i] as number) + 1;
    const padding =
      mode === "NOTSET"
        ? ([pads[i] as number, pads[i + rank] as number] as const)
        : mode === "VALID"
          ? ([0, 0] as const)
          : samePadding(
              Math.max(0, (Math.ceil(size / step) - 1) * step + reach - size),
              mode === "SAME_UPPER",
            );
    return { ...slide(size, reach, step, padding, options.ceil ?? false), padding };
  });
  if (axes.some(({ out }) => out < 1)) node.refuse(`a window larger than the input (${spatial})`);
  return {
    kernel,
    stride,
    dilation,
    before: axes.map(({ padding }) => padding[0]),
    after: axes.map(({ padding }) => padding[1]),
    out: axes.map(({ out }) => out),
    beyond: axes.map(({ beyond }) => beyond),
  };
}

function slide(
  size: number,
  reach: number,
  step: number,
  [before, after]: readonly [number, number],
  ceil: boolean,
): { readonly out: number; readonly beyond: number } {
  const room = size + before + after - reach;
  let out = (ceil ? Math.ceil(room / step) : Math.floor(room / step)) + 1;
  // A window that would begin behind the input sees nothing and is left out.
  if (ceil && (out - 1) * step >= size + before) out -= 1;
  return { out, beyond: Math.max(0, (out - 1) * step - room) };
}

/** (top, left, bottom, right) of a window over one or two axes; a line is an image of height 1. */
export function padding2d(
  before: readonly number[],
  after: readonly number[],
): readonly [number, number, number, number] {
  const [left = 0, top = 0] = before.toReversed();
  const [right = 0, bottom = 0] = after.toReversed();
  return [top, left, bottom, right];
}

/** One number for height and width; a line's height takes the fill. */
export function pair(values: readonly number[], fill: number): readonly [number, number] {
  const [width = fill, height = fill] = values.toReversed();
  return [height, width];
}

/** Which entries of an axis each window sees, the padding left out. */
export function windowRows(
  window: Window,
  axis: number,
  size: number,
): readonly (readonly number[])[] {
  const at = (list: readonly number[]): number => list[axis] as number;
  return Array.from({ length: at(window.out) }, (_, i) => {
    const start = i * at(window.stride) - at(window.before);
    return Array.from(
      { length: at(window.kernel) },
      (_, k) => start + k * at(window.dilation),
    ).filter((place) => place >= 0 && place < size);
  });
}
