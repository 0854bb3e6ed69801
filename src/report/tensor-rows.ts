import type { MaskSummary } from "../evaluate/run-metrics.js";

/** One tensor's part of the mask. */
export interface TensorRow {
  readonly index: number;
  readonly name: string;
  readonly masked: number;
  readonly total: number;
  /** masked / total, a fraction; null where the total is unknown or 0. */
  readonly share: number | null;
}

/** The tensors with candidates, in network order. */
export function tensorRows(summary: MaskSummary): TensorRow[] {
  const names = new Set([
    ...Object.keys(summary.perTensor),
    ...Object.keys(summary.perTensorTotal),
  ]);
  return Array.from(names, (name, index) => {
    const masked = ownNumber(summary.perTensor, name);
    const total = ownNumber(summary.perTensorTotal, name);
    return { index, name, masked, total, share: total > 0 ? masked / total : null };
  });
}

// A tensor may be called "constructor": only what the record itself holds counts.
function ownNumber(record: Readonly<Record<string, number>>, name: string): number {
  return Object.hasOwn(record, name) ? (record[name] ?? 0) : 0;
}

/** The `limit` rows with the most masked units, in network order. */
export function heaviestRows(rows: readonly TensorRow[], limit: number): TensorRow[] {
  const chosen = rows.toSorted((a, b) => b.masked - a.masked || a.index - b.index).slice(0, limit);
  return chosen.sort((a, b) => a.index - b.index);
}
