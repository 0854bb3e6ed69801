import { type DatasetView, type ImageDataset, subset, wholeView } from "../data/dataset.js";
import type { DatasetSplit } from "../data/loader.js";
import { type Normalization, parseNormalization } from "../data/normalize.js";
import { loadDataset } from "../data/source.js";
import { SafetensorsFile } from "../io/safetensors.js";
import { type Model, openModel } from "../model/model.js";
import { FishermaskError } from "../native/errors.js";
import type { StageReporter } from "../unlearn/method.js";
import { type CommonOptions, checkDevice, type ModelDataOptions } from "./options.js";
import { createProgress, type Progress, type ProgressStage } from "./progress.js";

/** One run of the command line: progress on stderr, the result on stdout, Ctrl-C as an AbortSignal. */
export class Session {
  readonly signal: AbortSignal;
  readonly progress: Progress;
  #stage: ProgressStage | undefined;
  readonly #json: boolean;

  constructor(options: Pick<CommonOptions, "json" | "quiet" | "device">) {
    checkDevice(options.device);
    const controller = new AbortController();
    this.signal = controller.signal;
    this.progress = createProgress({ quiet: options.quiet });
    this.#json = options.json;
    let interrupted = false;
    process.on("SIGINT", () => {
      if (interrupted) process.exit(130);
      interrupted = true;
      this.progress.warning("Stopping at the next batch; press Ctrl-C again to stop at once.");
      controller.abort();
    });
    if (options.device === "auto")
      this.message("device auto: using the CPU (this build has no CUDA backend)");
  }

  stage = (name: string, total: number | null): void => {
    this.#stage?.done();
    this.#stage = this.progress.stage(name, total, "samples");
  };

  // `update` and not `advance`: the library says how much is done in all.
  report = (done: number): void => this.#stage?.update(done);

  message = (text: string): void => this.progress.message(text);

  endStage(): void {
    this.#stage?.done();
    this.#stage = undefined;
  }

  /** The result: one JSON object, or text for people. */
  finish(result: unknown, text: string): void {
    this.endStage();
    this.progress.close();
    process.stdout.write(this.#json ? `${JSON.stringify(result)}\n` : `${text}\n`);
  }

  /** This session as a method's reporter. */
  reporter(): StageReporter {
    return { stage: this.stage, progress: this.report, message: this.message };
  }
}

export interface LoadedData {
  readonly dataset: ImageDataset;
  /** The first `limit` samples. */
  readonly view: DatasetView;
  readonly normalization: Normalization;
}

/** Reads one split; `limit` narrows the view, so that sample ids and the digest are those of the whole split. */
export async function openData(
  options: ModelDataOptions,
  split: DatasetSplit,
): Promise<LoadedData> {
  const dataset = await loadDataset(options.data, { split });
  const normalization = parseNormalization(options.normalize, dataset.shape[2]);
  const view =
    options.limit === undefined || options.limit >= dataset.size
      ? wholeView(dataset)
      : subset(
          dataset,
          Int32Array.from({ length: options.limit }, (_, i) => i),
        );
  return { dataset, view, normalization };
}

async function archOf(file: string, given: string | undefined): Promise<string> {
  if (given !== undefined) return given;
  await using source = await SafetensorsFile.open(file);
  const arch = source.metadata.get("fishermask.arch");
  if (arch === undefined) {
    throw new FishermaskError(
      "ERR_FM_ARGUMENT",
      `Expected --arch NAME for ${file}, which does not say its architecture`,
    );
  }
  return arch;
}

/** Reads the network that fits the data. */
export async function openNetwork(
  options: ModelDataOptions,
  dataset: ImageDataset,
): Promise<Model> {
  const file = options.model;
  if (file === undefined)
    throw new FishermaskError("ERR_FM_ARGUMENT", "Expected --model FILE but received none");
  return openModel(file, {
    arch: await archOf(file, options.arch),
    inputShape: dataset.shape,
    classes: dataset.classes.length,
  });
}
