import { argumentError } from "./check.js";

/** How a pixel becomes a network's input: (pixel / divisor − mean[c]) / std[c], pixel 0..255, c its channel. */
export interface Normalization {
  readonly divisor: 255 | 1;
  /** (C,), in the units after the division. */
  readonly mean: readonly number[];
  /** (C,), each above 0, in the units after the division. */
  readonly std: readonly number[];
}

type Statistics = Pick<Normalization, "mean" | "std">;

const kNamed: ReadonlyMap<string, Statistics> = new Map([
  // torchvision's pretrained models.
  ["imagenet", { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] }],
  // CIFAR-10's training set.
  ["cifar10", { mean: [0.4914, 0.4822, 0.4465], std: [0.247, 0.2435, 0.2616] }],
]);

function parseList(text: string): number[] {
  return text.split(",").map((item) => (item.trim() === "" ? Number.NaN : Number(item)));
}

function parseCustom(text: string): Statistics {
  const [mean, std, ...rest] = text.split("/").map(parseList);
  const fits =
    mean !== undefined &&
    std !== undefined &&
    rest.length === 0 &&
    mean.length === std.length &&
    mean.every(Number.isFinite) &&
    std.every((value) => Number.isFinite(value) && value > 0);
  if (!fits) {
    const names = [...kNamed.keys(), "none", "raw"].join(", ");
    throw argumentError(`${names} or 'm1,m2,m3/s1,s2,s3' (each s above 0)`, "normalize", text);
  }
  return { mean, std };
}

/**
 * Reads `--normalize`: `imagenet`, `cifar10`, `none` (only the division by 255), `raw` (pixels stay 0..255) or
 * `'m1,m2,m3/s1,s2,s3'`, the mean and standard deviation of each channel after the division by 255.
 *
 * @param channels of the data set: 3 for colour, 1 for grey
 * @throws {@link FishermaskError} `ERR_FM_ARGUMENT` for text that is none of these or has another number of channels
 */
export function parseNormalization(text: string, channels: number): Normalization {
  if (text === "none" || text === "raw") {
    const mean = new Array<number>(channels).fill(0);
    return { divisor: text === "raw" ? 1 : 255, mean, std: mean.map(() => 1) };
  }
  const statistics = kNamed.get(text) ?? parseCustom(text);
  const given = statistics.mean.length;
  if (given !== channels) {
    const expected = `one mean and std for each channel of the data (${channels})`;
    throw argumentError(expected, "normalize", `${text} (${given})`);
  }
  return { divisor: 255, ...statistics };
}
