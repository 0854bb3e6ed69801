import { type Command, Option } from "commander";
import { isTokens, subset } from "../../data/dataset.js";
import { splitForget } from "../../data/split.js";
import { evaluate } from "../../evaluate/accuracy.js";
import { FishermaskError } from "../../native/errors.js";
import {
  addData,
  addDevice,
  addModel,
  type DeviceOptions,
  type ModelDataOptions,
} from "../options.js";
import { loadForRun, openData, openNetwork, Session } from "../session.js";
import { formatPercent, formatTable } from "../table.js";

interface Options extends ModelDataOptions, DeviceOptions {
  readonly split: "train" | "test";
  readonly subset: "all" | "forget" | "remain";
  readonly forget?: string;
}

async function run(options: Options): Promise<void> {
  const session = new Session(options);
  const { dataset, view, normalization } = await openData(session, options, options.split);
  const model = await openNetwork(options, dataset);
  const chosen = await chooseSubset(options, dataset, view);
  using network = await loadForRun(session, model, options);
  const started = performance.now();
  session.stage("Evaluate", chosen.indices.length);
  const result = await evaluate(network, chosen, {
    batchSize: options.batch,
    normalization,
    signal: session.signal,
    onProgress: session.report,
  });
  const seconds = (performance.now() - started) / 1000;
  const perClass = dataset.classes.map((name, i) => {
    const { correct, total } = result.perClass[i] ?? { correct: 0, total: 0 };
    return { name, correct, total, accuracy: total === 0 ? null : correct / total };
  });
  const { correct, total, meanLoss } = result;
  const table = formatTable(perClass, [
    { header: "class", value: (row) => row.name },
    { header: "right", align: "right", value: (row) => `${row.correct}` },
    { header: "of", align: "right", value: (row) => `${row.total}` },
    {
      header: "accuracy",
      align: "right",
      value: (row) => (row.accuracy === null ? "–" : formatPercent(row.accuracy)),
    },
  ]);
  const samples = chosen.indices.length;
  // Of sequences: nats for one token, whatever their lengths.
  const perToken = isTokens(dataset) ? (meanLoss * samples) / total : null;
  const words = `${correct} of ${total} right (${formatPercent(correct / total, 2)}), mean loss ${meanLoss.toFixed(4)}`;
  session.finish(
    {
      schemaVersion: 1,
      correct,
      total,
      accuracy: correct / total,
      meanLoss,
      ...(perToken === null
        ? {}
        : { samples, lossPerToken: perToken, perplexity: Math.exp(perToken) }),
      perClass,
      device: network.device,
      threads: options.threads,
      seconds,
      samplesPerSecond: samples / seconds,
    },
    perToken === null
      ? `${table}\n\n${words}`
      : `${words} a sequence; perplexity ${Math.exp(perToken).toFixed(3)} (${samples} sequences)`,
  );
}

/**
 * The view, narrowed to the forget or the remain set.
 *
 * @throws {@link FishermaskError} `ERR_FM_ARGUMENT` without `--forget`, or when nothing is left
 */
export async function chooseSubset(
  options: Pick<Options, "subset" | "forget" | "seed">,
  dataset: Parameters<typeof subset>[0],
  view: ReturnType<typeof subset>,
): Promise<ReturnType<typeof subset>> {
  const { subset: name, forget } = options;
  if (name === "all" && forget !== undefined) {
    throw new FishermaskError(
      "ERR_FM_ARGUMENT",
      `Expected --subset forget or --subset remain with --forget ${forget} but received all`,
    );
  }
  if (name === "all") return view;
  if (forget === undefined) {
    throw new FishermaskError(
      "ERR_FM_ARGUMENT",
      `Expected --forget WHAT with --subset ${name} but received none`,
    );
  }
  const split = await splitForget(forget, dataset, {
    seed: options.seed,
    allowEmptyRemain: true,
  });
  const wanted = new Set(name === "forget" ? split.forget : split.remain);
  const indices = view.indices.filter((index) => wanted.has(index));
  if (indices.length === 0) {
    throw new FishermaskError(
      "ERR_FM_ARGUMENT",
      `Expected at least one sample for --subset ${name} of --forget ${forget} but received none`,
    );
  }
  return subset(dataset, indices);
}

export function addSubset(command: Command): Command {
  return command
    .addOption(
      new Option("--split <NAME>", "which part of the data")
        .choices(["train", "test"])
        .default("train"),
    )
    .addOption(
      new Option("--subset <NAME>", "which samples of it; forget and remain ask for --forget")
        .choices(["all", "forget", "remain"])
        .default("all"),
    )
    .option(
      "--forget <WHAT>",
      "class:3, class:cat, ids:FILE, random:0.1, mislabelled:FILE or match:TEXT",
    );
}

export function register(program: Command): void {
  const command = program
    .command("evaluate")
    .description("measure a network's accuracy, in all and by class");
  addDevice(addSubset(addData(addModel(command)))).action(run);
}
