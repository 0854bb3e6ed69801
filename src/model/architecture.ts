import type { Graph } from "./graph.js";
import { checkCount, expected, shapeText } from "./graph-error.js";
import type { Shape } from "./shape-rules.js";

/** The name that every architecture gives to the value that its head reads: (F,), after pooling. */
export const FEATURES = "features";
/** The name of every architecture's first output, (classes,). */
export const LOGITS = "logits";

export interface ArchitectureOptions {
  /** Per sample: (H, W, C) of an image, (F,) of a row. */
  readonly inputShape: Shape;
  /** How many classes the head tells apart. */
  readonly classes: number;
  /** `mlp` alone: the sizes of the hidden layers. */
  readonly hidden?: readonly number[] | undefined;
}

/** A family of networks. One file in `architectures/` defines one and exports it as `architecture`. */
export interface ArchitectureFamily {
  /** What `--arch` takes. */
  readonly names: readonly string[];
  /** One sentence for the help text. */
  readonly summary: string;
  /** The name of the value that the head reads, one of the graph's outputs. */
  readonly features: string;
  /**
   * @param name one of `names`
   * @throws {@link FishermaskError} `ERR_FM_ARGUMENT` for options that the family does not take
   */
  readonly build: (options: ArchitectureOptions, name: string) => Graph;
}

/** A family whose options are checked before its own `build` sees them. */
export function defineArchitecture(
  definition: Omit<ArchitectureFamily, "features">,
): ArchitectureFamily {
  return {
    ...definition,
    features: FEATURES,
    build: (options, name) => {
      checkCount("classes", options.classes);
      for (const size of options.inputShape) checkCount("a size of inputShape", size);
      return definition.build(options, name);
    },
  };
}

/**
 * The sizes of an image.
 *
 * @throws {@link FishermaskError} `ERR_FM_ARGUMENT` for a shape of another rank
 */
export function imageShape(options: ArchitectureOptions): readonly [number, number, number] {
  const [height, width, channels] = options.inputShape;
  if (height === undefined || width === undefined || channels === undefined) {
    throw expected("ERR_FM_ARGUMENT", "(H, W, C)", "inputShape", shapeText(options.inputShape));
  }
  return [height, width, channels];
}
