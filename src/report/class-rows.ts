import type { ClassScore, RunMetrics, Snapshot } from "../evaluate/run-metrics.js";

/** One class's test accuracy in each network, as fractions; null where it was not measured. */
export interface ClassRow {
  readonly index: number;
  readonly name: string;
  readonly forgotten: boolean;
  readonly before: number | null;
  readonly masked: number | null;
  readonly after: number | null;
  readonly retrained: number | null;
}

function accuracy(score: ClassScore | undefined): number | null {
  return score !== undefined && score.total > 0 ? score.correct / score.total : null;
}

function scoreOf(snapshot: Snapshot | null, index: number, name: string): ClassScore | undefined {
  const scores = snapshot?.perClass.test ?? [];
  const here = scores[index];
  return here?.name === name ? here : scores.find((score) => score.name === name);
}

/** The classes with a test accuracy before or after, in the order of the data. */
export function classRows(metrics: RunMetrics): ClassRow[] {
  const { before, after, maskedOnly, retrained, data } = metrics;
  const scores = before.perClass.test.length > 0 ? before.perClass.test : after.perClass.test;
  const forgotten = new Set(data.forgetClasses.map((index) => data.classes[index]));
  const rows = scores.map(({ name }, index) => ({
    index,
    name,
    forgotten: forgotten.has(name),
    before: accuracy(scoreOf(before, index, name)),
    masked: accuracy(scoreOf(maskedOnly, index, name)),
    after: accuracy(scoreOf(after, index, name)),
    retrained: accuracy(scoreOf(retrained, index, name)),
  }));
  return rows.filter((row) => row.before !== null || row.after !== null);
}

/** The remaining class whose test accuracy fell most; null when none fell. */
export function worstRemainingClass(rows: readonly ClassRow[]): ClassRow | null {
  const loss = (row: ClassRow) => (row.before ?? 0) - (row.after ?? row.before ?? 0);
  const remaining = rows.filter((row) => !row.forgotten && row.before !== null);
  const worst = remaining.reduce<ClassRow | null>(
    (most, row) => (most === null || loss(row) > loss(most) ? row : most),
    null,
  );
  return worst !== null && loss(worst) > 0 ? worst : null;
}
