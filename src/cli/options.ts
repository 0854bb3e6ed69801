import { availableParallelism } from "node:os";
import { type Command, InvalidArgumentError, Option } from "commander";
import { loaders } from "../data/loaders.gen.js";
import { architectures } from "../model/architectures.js";
import { PRECISIONS, type Precision, parseDevice, requireCuda } from "../native/device.js";
import { FishermaskError } from "../native/errors.js";
import { SCOPES, UNITS } from "../native/masking.js";
import { criteria } from "../unlearn/criteria.gen.js";
import { FISHER_GRADIENTS, FISHER_LABELS } from "../unlearn/fisher-store.js";

/** Options that every verb takes. */
export interface CommonOptions {
  readonly device: string;
  readonly threads: number;
  readonly seed: number;
  readonly json: boolean;
  readonly quiet: boolean;
}

/** Of the verbs whose networks may live on a device. */
export interface DeviceOptions extends CommonOptions {
  readonly precision: Precision;
}

/** Options that say which network and which data. */
export interface ModelDataOptions extends CommonOptions {
  readonly model?: string;
  readonly arch?: string;
  readonly data: string;
  readonly normalize: string;
  readonly batch: number;
  readonly limit?: number;
  readonly tokenizer?: string;
  readonly length?: number;
  readonly imageSize?: readonly [height: number, width: number];
}

export function wholeNumber(least: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() === "" || !Number.isSafeInteger(value) || value < least) {
      throw new InvalidArgumentError(
        `Expected a whole number from ${least} but received "${text}".`,
      );
    }
    return value;
  };
}

export function realNumber(
  name: string,
  accept: (value: number) => boolean,
  expected: string,
): (text: string) => number {
  return (text) => {
    const value = text.trim() === "" ? Number.NaN : Number(text);
    if (!accept(value)) {
      throw new InvalidArgumentError(`Expected ${expected} for ${name} but received "${text}".`);
    }
    return value;
  };
}

export const positive = (value: number): boolean => value > 0 && Number.isFinite(value);
export const atLeastZero = (value: number): boolean => value >= 0 && Number.isFinite(value);
export const positiveShare = (value: number): boolean => value > 0 && value <= 1;
export const unitInterval = (value: number): boolean => value >= 0 && value <= 1;

/** `H,W`, two whole numbers from 1. */
export function imageSize(text: string): readonly [height: number, width: number] {
  const [height, width, ...more] = text.split(",");
  if (height === undefined || width === undefined || more.length > 0) {
    throw new InvalidArgumentError(
      `Expected height,width for --image-size but received "${text}".`,
    );
  }
  return [wholeNumber(1)(height), wholeNumber(1)(width)];
}

function collect(text: string, before: readonly string[] | undefined): string[] {
  return [...(before ?? []), text];
}

export function addCommon(command: Command): Command {
  return command
    .option("--device <NAME>", "auto, cpu or cuda:N; cuda never falls back", "auto")
    .option("--threads <N>", "threads of the engine", wholeNumber(1), availableParallelism())
    .option("--seed <N>", "of everything that is drawn", wholeNumber(0), 0)
    .option("--json", "print one JSON object on stdout", false)
    .option("--quiet", "no progress on stderr", false);
}

const PRECISION = "precision";

/** For a verb whose networks may live on a device. The other verbs run on the CPU, and refuse `cuda`. */
export function addDevice(command: Command): Command {
  return addCommon(command).addOption(
    new Option(
      `--${PRECISION} <NAME>`,
      "what matrix products read on a CUDA device; the CPU computes in f32",
    )
      .choices(PRECISIONS)
      .default("f32"),
  );
}

/**
 * Refuses a device that is not there, or that the verb has no use for, before anything is read.
 *
 * @throws {@link FishermaskError} `ERR_FM_ARGUMENT`, `ERR_FM_NO_DEVICE`
 */
export async function checkDevice(command: Command): Promise<void> {
  const { device, precision } = command.opts<{ device?: string; precision?: Precision }>();
  if (device === undefined) return;
  const takesDevice = command.options.some(({ long }) => long === `--${PRECISION}`);
  const onCuda = parseDevice(device) !== null;
  if (onCuda && !takesDevice) {
    throw new FishermaskError(
      "ERR_FM_ARGUMENT",
      `Expected auto or cpu for --device of ${command.name()}, which runs on the CPU, but received "${device}"`,
    );
  }
  if (device === "cpu" && precision !== undefined && precision !== "f32") {
    throw new FishermaskError(
      "ERR_FM_ARGUMENT",
      `Expected --precision f32 with --device cpu but received ${precision}`,
    );
  }
  if (onCuda) await requireCuda(device);
}

export function addData(command: Command): Command {
  return command
    .requiredOption(
      "--data <NAME:PATH>",
      `the data: ${Object.keys(loaders)
        .map((name) => `${name}:PATH`)
        .join(", ")}`,
    )
    .option(
      "--normalize <NAME>",
      "imagenet, cifar10, none (divide by 255), raw, or m1,m2,m3/s1,s2,s3",
      "none",
    )
    .option(
      "--tokenizer <PATH>",
      "of text: tokenizer.json, its folder, or llama2.c's tokenizer.bin",
    )
    .option("--length <N>", "of text: tokens a sequence at most", wholeNumber(1))
    .option(
      "--image-size <H,W>",
      "of image files: scale each until it just covers this, and cut its centre out",
      imageSize,
    )
    .option("--batch <N>", "samples a batch", wholeNumber(1), 128)
    .option("--limit <N>", "the first N samples, in file order", wholeNumber(1));
}

export function addModel(command: Command): Command {
  return command
    .requiredOption(
      "--model <FILE>",
      "a state dict (.safetensors), .onnx, a Hugging Face folder or a llama2.c model",
    )
    .addOption(
      new Option("--arch <NAME>", "the architecture, where the file does not say it").choices([
        ...architectures.keys(),
      ]),
    );
}

export function addFisher(command: Command): Command {
  return command
    .addOption(
      new Option("--labels <NAME>", "label that the Fisher's loss takes").choices(FISHER_LABELS),
    )
    .addOption(
      new Option("--gradient <NAME>", "per-sample (exact) or batch-mean").choices(FISHER_GRADIENTS),
    )
    .option(
      "--temperature <T>",
      "logits are divided by it before the Fisher's loss",
      realNumber("--temperature", positive, "a number above 0"),
    );
}

export function addMasking(command: Command): Command {
  return command
    .addOption(
      new Option("--criterion <NAME>", "how units are scored").choices(Object.keys(criteria)),
    )
    .option(
      "--lambda <X>",
      "weight of the remain Fisher in difference and saliency; default 1",
      realNumber("--lambda", Number.isFinite, "a number"),
    )
    .option(
      "--epsilon <X>",
      "keeps denominators from 0; default 1e-12 (ratio), 1e-6 (directional)",
      realNumber("--epsilon", Number.isFinite, "a number"),
    )
    .addOption(new Option("--unit <NAME>", "what is masked as one").choices(UNITS))
    .addOption(new Option("--scope <NAME>", "over what units are ranked").choices(SCOPES))
    .option(
      "--ratio <X>",
      "mask exactly this share of the candidates",
      realNumber("--ratio", unitInterval, "a number from 0 to 1"),
    )
    .option("--include <GLOB>", "only these tensors (repeatable)", collect)
    .option("--exclude <GLOB>", "not these tensors (repeatable)", collect);
}
