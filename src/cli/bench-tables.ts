import type {
  Ceilings,
  DoublingBenchmark,
  FisherBenchmark,
  KernelBenchmark,
  PieceTimes,
} from "../native/bench.js";
import { formatCount, formatNumber, formatPercent } from "../report/format.js";
import { formatTable, type TableColumn } from "./table.js";

const kMebibyte = 2 ** 20;

function figure<Row>(header: string, value: (row: Row) => string): TableColumn<Row> {
  return { header, align: "right", value };
}

function mebibytes(bytes: number | null | undefined): string {
  return bytes === null || bytes === undefined ? "–" : `${(bytes / kMebibyte).toFixed(0)} MiB`;
}

function times<Row extends PieceTimes>(): TableColumn<Row>[] {
  return [
    figure("ms", (row) => formatNumber(row.milliseconds)),
    figure("spread", (row) => formatPercent(row.spread)),
  ];
}

function rates<Row extends { readonly gflops?: number; readonly ofGemmCeiling?: number }>() {
  return [
    figure<Row>("GFLOP/s", ({ gflops }) => formatNumber(gflops, 3)),
    figure<Row>("of GEMM", ({ ofGemmCeiling }) => formatPercent(ofGemmCeiling)),
  ];
}

function ceilingsLine({ gemmGflops, copyGBps }: Ceilings): string {
  return `ceilings in the same run: GEMM ${formatNumber(gemmGflops, 3)} GFLOP/s, copy ${formatNumber(copyGBps, 3)} GB/s`;
}

interface PassRow extends PieceTimes {
  readonly name: string;
  readonly samplesPerSecond: number;
  readonly gflops?: number;
  readonly ofGemmCeiling?: number;
  readonly peakRssAboveStartBytes?: number | null;
}

/** Passes of one network, ceilings, and what the Fisher costs beside plain forward + backward. */
export function fisherTable(document: FisherBenchmark): string {
  const { forward, forwardBackward, fisher, trainingStep, ceilings } = document;
  const ratio = document.fisherOverForwardBackward;
  const rows: readonly PassRow[] = [
    { name: "forward", ...forward },
    { name: "forward + backward", ...forwardBackward },
    { name: "Fisher, per sample", ...fisher },
    { name: "training step", ...trainingStep },
  ];
  const table = formatTable(rows, [
    { header: document.network, value: ({ name }) => name },
    figure("samples/s", ({ samplesPerSecond }) => formatNumber(samplesPerSecond)),
    ...times<PassRow>(),
    ...rates<PassRow>(),
    figure("peak memory", (row) => mebibytes(row.peakRssAboveStartBytes)),
  ]);
  const memory =
    ratio.peakRssAboveStart === null
      ? "its memory is not known here"
      : `${formatNumber(ratio.peakRssAboveStart, 3)} × its memory`;
  return [
    table,
    "",
    ceilingsLine(ceilings),
    `the Fisher takes ${formatNumber(ratio.time, 3)} × the time of forward + backward, ${memory}`,
    `${formatCount(document.parameters)} parameters, batch ${document.batch}, threads: ${document.threads}, rounds: ${document.rounds}`,
  ].join("\n");
}

/** The squared-gradient kernels by shape. */
export function kernelTable(document: KernelBenchmark): string {
  const table = formatTable(document.kernels, [
    { header: "kernel", value: ({ kernel }) => kernel },
    ...times<(typeof document.kernels)[number]>(),
    ...rates<(typeof document.kernels)[number]>(),
    figure("operations/byte", ({ intensity }) => formatNumber(intensity, 3)),
  ]);
  return [table, "", ceilingsLine(document.ceilings)].join("\n");
}

/** Time against size. */
export function doublingTable(document: DoublingBenchmark): string {
  const table = formatTable(document.series, [
    { header: "network", value: ({ network }) => network },
    figure("samples", ({ samples }) => formatCount(samples)),
    figure("parameters", ({ parameters }) => formatCount(parameters)),
    ...times<(typeof document.series)[number]>(),
  ]);
  const slope = `log slope over ${document.axis}: ${formatNumber(document.logSlope, 3)} (1 is linear)`;
  return [table, "", slope].join("\n");
}

interface OpRow {
  readonly mode: string;
  readonly op: string;
  readonly [key: string]: string | number;
}

function opRows(mode: string, ops: unknown): OpRow[] {
  const byOp = ops as Readonly<Record<string, Readonly<Record<string, number>>>>;
  return Object.entries(byOp).map(([op, values]) => ({ mode, op, ...values }));
}

/** Where the time of a network's passes goes, by op. */
export function opTable(document: Readonly<Record<string, unknown>>): string {
  const rows = [
    ...opRows("evaluation", document["evaluationMode"]),
    ...opRows("training", document["trainingMode"]),
  ];
  const milliseconds = (header: string, key: string) =>
    figure<OpRow>(header, (row) => {
      const value = row[key];
      return typeof value === "number" ? formatNumber(value, 3) : "–";
    });
  return formatTable(rows, [
    { header: "mode", value: ({ mode }) => mode },
    { header: "op", value: ({ op }) => op },
    figure("nodes", (row) => String(row["nodes"])),
    milliseconds("forward, ms", "forwardMilliseconds"),
    milliseconds("input gradient, ms", "backwardInputMilliseconds"),
    milliseconds("weight gradient, ms", "backwardParametersMilliseconds"),
    milliseconds("squares, ms", "squaresMilliseconds"),
  ]);
}

/** What stands at the top of a document, name by name; lists and objects are left to --json. */
export function plainTable(document: Readonly<Record<string, unknown>>): string {
  const rows = Object.entries(document).filter(
    ([, value]) => value === null || typeof value !== "object",
  );
  return formatTable(rows, [
    { header: "measured", value: ([name]) => name },
    figure("value", ([, value]) =>
      typeof value === "number" ? formatNumber(value) : String(value ?? "–"),
    ),
  ]);
}
