import type { Command } from "commander";
import { writeFileAtomic } from "../../io/atomic-write.js";
import { BENCH_NETWORKS, benchNetwork, doublingNetworks } from "../../model/bench-networks.js";
import {
  type DoublingBenchmark,
  type FisherBenchmark,
  type KernelBenchmark,
  runBenchmark,
} from "../../native/bench.js";
import { checkChoice } from "../../native/choice.js";
import { FishermaskError } from "../../native/errors.js";
import { plotDoubling } from "../../report/plot-doubling.js";
import { plotRoofline } from "../../report/plot-roofline.js";
import { standaloneSvg } from "../../report/standalone-svg.js";
import { environment } from "../../unlearn/run-directory.js";
import { doublingTable, fisherTable, kernelTable, opTable, plainTable } from "../bench-tables.js";
import { checkDestination } from "../destination.js";
import { addCommon, type CommonOptions, wholeNumber } from "../options.js";
import { Session } from "../session.js";

interface RoundsOptions extends CommonOptions {
  readonly batch: number;
  readonly rounds?: number;
}

interface FisherOptions extends RoundsOptions {
  readonly net: string;
  readonly roofline?: string;
  readonly doubling?: string;
  readonly steps?: number;
  readonly plot?: string;
}

interface KernelOptions extends RoundsOptions {
  readonly only?: string;
  readonly roofline?: string;
}

interface MaskOptions extends CommonOptions {
  readonly params?: string;
  readonly ratio?: string;
  readonly distribution?: string;
  readonly unit?: string;
  readonly rounds?: string;
  readonly dump?: string;
  readonly stream?: string;
}

const DOUBLINGS = ["samples", "parameters"] as const;
const kDefaultBatch = 64;
const kDefaultSteps = 5;

/** The document as every benchmark prints it: what was measured, where, and with which build. */
function complete(benchmark: string, document: object): Record<string, unknown> {
  const { platform, cpu, cores, memoryBytes, fishermask, node, oneDNN, compiler } = environment();
  return {
    schemaVersion: 1,
    benchmark,
    ...document,
    machine: { platform, cpu, cores, memoryBytes },
    versions: { fishermask, node, oneDNN, compiler },
  };
}

async function writePlot(session: Session, path: string | undefined, svg: string | null) {
  if (path === undefined || svg === null) return;
  await writeFileAtomic(path, standaloneSvg(svg));
  session.message(`Wrote ${path}`);
}

function refuse(option: string, without: string): never {
  throw new FishermaskError(
    "ERR_FM_ARGUMENT",
    `Expected --${option} together with --${without} but received it alone`,
  );
}

function where({ batch, threads }: { readonly batch: number; readonly threads: number }): string {
  return `batch ${batch}, ${threads} thread${threads === 1 ? "" : "s"}`;
}

function fisherRoofline(net: string, document: FisherBenchmark): string | null {
  const passes = { Forward: "forward", "Forward + backward": "forwardBackward" } as const;
  const points = Object.entries({ ...passes, "Fisher, per sample": "fisher" } as const);
  return plotRoofline({
    title: `${net}: passes under this machine's ceilings (${where(document)})`,
    points: points.map(([name, pass]) => ({
      name,
      group: pass === "fisher" ? "Fisher" : "plain passes",
      intensity: document[pass].intensity,
      gflops: document[pass].gflops,
    })),
    ...document.ceilings,
  });
}

function kernelRoofline(document: KernelBenchmark): string | null {
  return plotRoofline({
    title: `Squared-gradient kernels under this machine's ceilings (${where(document)})`,
    points: document.kernels.map(({ kernel, intensity, gflops }) => ({
      name: kernel,
      group: kernel.startsWith("linear") ? "linear layers" : "convolutions",
      intensity,
      gflops,
    })),
    ...document.ceilings,
  });
}

function doublingPlot(net: string, document: DoublingBenchmark): string | null {
  const { axis, series, logSlope } = document;
  return plotDoubling({
    title:
      axis === "samples"
        ? `${net}: time of the Fisher against samples (${where(document)})`
        : `Networks of linear layers: time of the Fisher of a batch against parameters (${where(document)})`,
    axis,
    points: series.map((row) => ({ size: row[axis], seconds: row.seconds })),
    logSlope,
  });
}

async function runDoubling(session: Session, options: FisherOptions, axis: string): Promise<void> {
  checkChoice("--doubling", axis, DOUBLINGS);
  if (options.roofline !== undefined) {
    throw new FishermaskError(
      "ERR_FM_ARGUMENT",
      "Expected --plot FILE with --doubling but received --roofline",
    );
  }
  await checkDestination(options.plot);
  const { net, batch, threads, rounds, seed, steps = kDefaultSteps } = options;
  const common = { axis, batch, threads, rounds, seed };
  const graphs =
    axis === "samples"
      ? { "graph-json": JSON.stringify(benchNetwork(net)), steps }
      : { "graphs-json": JSON.stringify(doublingNetworks(steps)) };
  session.message(`Measuring the Fisher at ${steps} sizes, each with twice the ${axis}`);
  const document = await runBenchmark("doubling", { ...common, ...graphs }, session.signal);
  await writePlot(session, options.plot, doublingPlot(net, document));
  session.finish(complete("doubling", document), doublingTable(document));
}

async function runFisher(options: FisherOptions): Promise<void> {
  const session = new Session(options);
  const { net, batch, threads, rounds, seed, doubling } = options;
  checkChoice("--net", net, BENCH_NETWORKS);
  if (doubling !== undefined) return runDoubling(session, options, doubling);
  if (options.plot !== undefined) refuse("plot", "doubling");
  if (options.steps !== undefined) refuse("steps", "doubling");
  await checkDestination(options.roofline);
  session.message(`Measuring ${net}, ${where(options)}`);
  const graph = JSON.stringify(benchNetwork(net));
  const document = await runBenchmark(
    "fisher",
    { "graph-json": graph, batch, threads, rounds, seed },
    session.signal,
  );
  await writePlot(session, options.roofline, fisherRoofline(net, document));
  session.finish(complete("fisher", { net, ...document }), fisherTable(document));
}

async function runKernels(options: KernelOptions): Promise<void> {
  const session = new Session(options);
  const { batch, threads, rounds, seed, only } = options;
  await checkDestination(options.roofline);
  session.message(`Measuring the squared-gradient kernels, ${where(options)}`);
  const document = await runBenchmark(
    "kernels",
    { batch, threads, rounds, seed, only },
    session.signal,
  );
  await writePlot(session, options.roofline, kernelRoofline(document));
  session.finish(complete("kernels", document), kernelTable(document));
}

async function runOps(options: RoundsOptions & { readonly net: string }): Promise<void> {
  const session = new Session(options);
  const { net, batch, threads, rounds, seed } = options;
  checkChoice("--net", net, BENCH_NETWORKS);
  session.message(`Measuring ${net} op by op, ${where(options)}`);
  const graph = JSON.stringify(benchNetwork(net));
  const document = await runBenchmark(
    "ops",
    { "graph-json": graph, batch, threads, rounds, seed },
    session.signal,
  );
  session.finish(complete("ops", { net, ...document }), opTable(document));
}

async function runMask(options: MaskOptions): Promise<void> {
  const session = new Session(options);
  const { params, ratio, distribution, unit, rounds, dump, stream, threads } = options;
  session.message("Measuring the top-k masking");
  const document = await runBenchmark(
    "mask",
    {
      ...{ params, ratio, distribution, unit, rounds, dump, stream, threads },
      seed: options.seed === 0 ? undefined : options.seed,
    },
    session.signal,
  );
  session.finish(complete("mask", document), plainTable(document));
}

function addRounds(command: Command): Command {
  return addCommon(command)
    .option("--batch <N>", "samples a batch", wholeNumber(1), kDefaultBatch)
    .option("--rounds <N>", "timed rounds; each runs every piece once", wholeNumber(1));
}

function addNet(command: Command): Command {
  return command.option("--net <NAME>", BENCH_NETWORKS.join(", "), "resnet20");
}

const kRoofline = "draw GFLOP/s against operations a byte under the measured ceilings";

/** Registers `bench` and what it can measure. */
export function register(program: Command): void {
  const bench = program
    .command("bench")
    .description("measure the engine against this machine's own ceilings, in one run");
  addNet(
    addRounds(
      bench
        .command("fisher")
        .description("a network's forward, forward + backward, exact Fisher and training step"),
    ),
  )
    .option("--roofline <FILE.svg>", kRoofline)
    .option("--doubling <AXIS>", "time against size instead: samples or parameters")
    .option("--steps <N>", "of --doubling: how many sizes; default 5", wholeNumber(1))
    .option("--plot <FILE.svg>", "of --doubling: draw it")
    .action(runFisher);
  addRounds(
    bench.command("kernels").description("the squared-gradient kernels alone, shape by shape"),
  )
    .option("--only <TEXT>", "those whose name holds this")
    .option("--roofline <FILE.svg>", kRoofline)
    .action(runKernels);
  addNet(
    addRounds(bench.command("ops").description("where a network's passes spend their time")),
  ).action(runOps);
  addCommon(
    bench
      .command("mask")
      .description("score, select exactly k and mask, beside one pass of reading"),
  )
    .option("--params <N>", "weights, 1e8 or 100000000")
    .option("--ratio <X>", "the share that is masked")
    .option("--distribution <NAME>", "lognormal, equal, two-values, sorted or denormal scores")
    .option("--unit <NAME>", "weight, kernel or filter")
    .option("--rounds <N>", "timed rounds")
    .option("--dump <PREFIX>", "write PREFIXscores.npy, PREFIXweights.npy, PREFIXkeepmask.npy")
    .option("--stream <DIR>", "mask shards on disk that are written there first")
    .action(runMask);
}
