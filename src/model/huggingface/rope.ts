import type { ConfigReader } from "./config-reader.js";

const kDefaultTheta = 10_000;

/** How the frequencies are changed for contexts longer than the trained one. */
export type RopeScaling =
  | { readonly type: "default" }
  /** Positions are divided by the factor. */
  | { readonly type: "linear"; readonly factor: number }
  | {
      readonly type: "llama3";
      readonly factor: number;
      readonly lowFrequencyFactor: number;
      readonly highFrequencyFactor: number;
      /** Tokens of the context before scaling. */
      readonly originalContext: number;
    };

export interface Rope {
  readonly theta: number;
  readonly scaling: RopeScaling;
}

/** Long wavelengths are slowed down by the factor, short ones stay, those between are blended. */
function llama3Frequency(
  frequency: number,
  scaling: Extract<RopeScaling, { type: "llama3" }>,
): number {
  const { factor, lowFrequencyFactor: low, highFrequencyFactor: high } = scaling;
  const turns = (scaling.originalContext * frequency) / (2 * Math.PI);
  if (turns > high) return frequency;
  if (turns < low) return frequency / factor;
  const kept = (turns - low) / (high - low);
  return (1 - kept) * (frequency / factor) + kept * frequency;
}

/**
 * Radians a position of each pair of a head, theta^(−2i/headSize), (headSize / 2).
 *
 * Source: Su et al., "RoFormer", arXiv:2104.09864; scaling as in huggingface/transformers, `modeling_rope_utils.py`.
 */
export function ropeFrequencies(headSize: number, { theta, scaling }: Rope): number[] {
  return Array.from({ length: headSize / 2 }, (_, i) => {
    const frequency = theta ** ((-2 * i) / headSize);
    if (scaling.type === "linear") return frequency / scaling.factor;
    return scaling.type === "llama3" ? llama3Frequency(frequency, scaling) : frequency;
  });
}

function readScaling(config: ConfigReader, context: number): RopeScaling {
  // Older files call it `type`; where both stand, `rope_type` counts.
  const older = config.text("type", "default");
  const type = config.choice(
    "rope_type",
    { default: "default", linear: "linear", llama3: "llama3" } as const,
    older,
  );
  if (type === "default") return { type };
  const factor = config.positive("factor");
  if (type === "linear") return { type, factor };
  const lowFrequencyFactor = config.positive("low_freq_factor");
  const highFrequencyFactor = config.positive("high_freq_factor");
  if (highFrequencyFactor <= lowFrequencyFactor) {
    const what = `a number above low_freq_factor (${lowFrequencyFactor})`;
    throw config.bad("high_freq_factor", what, `${highFrequencyFactor}`);
  }
  const originalContext = config.count("original_max_position_embeddings", context);
  return { type, factor, lowFrequencyFactor, highFrequencyFactor, originalContext };
}

/**
 * Reads `rope_theta` and `rope_scaling`, or the `rope_parameters` that newer files have in their place.
 *
 * @param context tokens that the model takes at most
 * @throws {@link FishermaskError} `ERR_FM_BAD_FILE`; `ERR_FM_UNSUPPORTED` for other kinds (dynamic, yarn, longrope)
 */
export function readRope(config: ConfigReader, context: number): Rope {
  config.only("partial_rotary_factor", 1);
  const topTheta = config.positive("rope_theta", kDefaultTheta);
  const both = ["rope_parameters", "rope_scaling"].filter((key) => config.has(key));
  if (both.length > 1) throw config.bad("rope_parameters", "nothing beside rope_scaling", "both");
  const parameters = config.nested(both[0] ?? "rope_parameters");
  if (parameters === undefined) return { theta: topTheta, scaling: { type: "default" } };
  parameters.only("partial_rotary_factor", 1);
  parameters.only("attention_factor", 1);
  const theta = parameters.positive("rope_theta", topTheta);
  const scaling = readScaling(parameters, context);
  parameters.finish();
  return { theta, scaling };
}
