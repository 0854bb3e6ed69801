import { type Dataset, type DatasetView, isTokens, subset, wholeView } from "../data/dataset.js";
import type { DatasetSplit } from "../data/loader.js";
import { type Normalization, parseNormalization } from "../data/normalize.js";
import { loadDataset } from "../data/source.js";
import { loadNetwork, type Model } from "../model/model.js";
import { openAnyModel } from "../model/open.js";
import { FishermaskError } from "../native/errors.js";
import type { EngineNetwork } from "../native/network.js";
import type { StageReporter } from "../unlearn/method.js";
import type { CommonOptions, DeviceOptions, ModelDataOptions } from "./options.js";
import { createProgress, type Progress, type ProgressStage } from "./progress.js";

/** One run of the command line: progress on stderr, the result on stdout, Ctrl-C as an AbortSignal. */
export class Session {
  readonly signal: AbortSignal;
  readonly progress: Progress;
  #stage: ProgressStage | undefined;
  readonly #json: boolean;

  constructor(options: Pick<CommonOptions, "json" | "quiet">) {
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
  readonly dataset: Dataset;
  /** The first `limit` samples. */
  readonly view: DatasetView;
  /** Of images. */
  readonly normalization: Normalization | undefined;
}

function truncationOf(dataset: Dataset): string | null {
  if (!isTokens(dataset) || (dataset.truncated ?? 0) === 0) return null;
  const { truncated, size, length } = dataset;
  return `${truncated} of ${size} sequences are longer than ${length} tokens: their ends are neither read nor predicted.`;
}

/** Reads one split; `limit` narrows the view, so that sample ids and the digest are those of the whole split. */
export async function openData(
  session: Pick<Session, "progress">,
  options: ModelDataOptions,
  split: DatasetSplit,
): Promise<LoadedData> {
  const { tokenizer, length, imageSize } = options;
  const dataset = await loadDataset(options.data, { split, tokenizer, length, imageSize });
  const normalization = isTokens(dataset)
    ? undefined
    : parseNormalization(options.normalize, dataset.shape[2]);
  const view =
    options.limit === undefined || options.limit >= dataset.size
      ? wholeView(dataset)
      : subset(
          dataset,
          Int32Array.from({ length: options.limit }, (_, i) => i),
        );
  const warning = truncationOf(dataset);
  if (warning !== null) session.progress.warning(warning);
  return { dataset, view, normalization };
}

/** Reads the network that fits the data. */
export async function openNetwork(options: ModelDataOptions, dataset: Dataset): Promise<Model> {
  const file = options.model;
  if (file === undefined)
    throw new FishermaskError("ERR_FM_ARGUMENT", "Expected --model FILE but received none");
  if (isTokens(dataset)) return openAnyModel(file, { sequenceLength: dataset.length });
  return openAnyModel(file, {
    arch: options.arch,
    inputShape: dataset.shape,
    classes: dataset.classes.length,
  });
}

/** Takes a network to the device that was asked for, and says which it is. */
export function loadForRun(
  session: Pick<Session, "message">,
  model: Model,
  { threads, device, precision }: Pick<DeviceOptions, "threads" | "device" | "precision">,
): Promise<EngineNetwork> {
  return loadNetwork(model, {
    threads,
    device,
    precision,
    onDevice: (choice) => session.message(choice.message),
  });
}
