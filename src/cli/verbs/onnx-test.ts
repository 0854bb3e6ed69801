import type { Command } from "commander";
import { type ConformanceRow, reportOf, runConformance } from "../../model/onnx/conformance.js";
import { addCommon, type CommonOptions } from "../options.js";
import type { ProgressStage } from "../progress.js";
import { Session } from "../session.js";
import { formatTable } from "../table.js";

interface OperatorRow {
  readonly operator: string;
  readonly pass: number;
  readonly refused: number;
  readonly wrong: number;
}

function byOperator(rows: readonly ConformanceRow[]): readonly OperatorRow[] {
  const groups = new Map<string, ConformanceRow[]>();
  for (const row of rows) groups.set(row.operator, [...(groups.get(row.operator) ?? []), row]);
  const ofResult = (group: readonly ConformanceRow[], result: ConformanceRow["result"]): number =>
    group.filter((row) => row.result === result).length;
  return [...groups]
    .map(([operator, group]) => ({
      operator,
      pass: ofResult(group, "pass"),
      refused: ofResult(group, "refused"),
      wrong: ofResult(group, "wrong"),
    }))
    .sort((a, b) => (a.operator < b.operator ? -1 : 1));
}

function tableOf(rows: readonly ConformanceRow[]): string {
  const { total, pass, refused, wrong } = reportOf(rows);
  const figure = (header: string, value: (row: OperatorRow) => number) => ({
    header,
    align: "right" as const,
    value: (row: OperatorRow) => String(value(row)),
  });
  const table = formatTable(byOperator(rows), [
    { header: "operator", value: (row) => row.operator },
    figure("pass", (row) => row.pass),
    figure("refused", (row) => row.refused),
    figure("wrong", (row) => row.wrong),
  ]);
  const wrongs = rows
    .filter((row) => row.result === "wrong")
    .map((row) => `wrong: ${row.name}: ${row.reason}`);
  const sum = `${total} tests: ${pass} pass, ${refused} refused, ${wrong} wrong`;
  return [table, "", ...wrongs, sum].join("\n");
}

async function run(folder: string, options: CommonOptions): Promise<void> {
  const session = new Session(options);
  let stage: ProgressStage | undefined;
  const rows = await runConformance(folder, {
    threads: options.threads,
    signal: session.signal,
    onProgress: (done, total) => {
      stage ??= session.progress.stage("ONNX tests", total, "tests");
      stage.update(done);
    },
  });
  stage?.done();
  session.finish(reportOf(rows), tableOf(rows));
}

/** Registers the verb `onnx-test`. It exits with 0 whatever the results are. */
export function register(program: Command): void {
  addCommon(
    program
      .command("onnx-test <DIR>")
      .description("run ONNX's backend tests below a folder: what the importer passes and refuses"),
  ).action(run);
}
