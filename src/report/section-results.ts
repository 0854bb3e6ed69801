import { hasNewHead, type RunMetrics, type Snapshot } from "../evaluate/run-metrics.js";
import { formatNumber, formatPercent, formatPoints } from "./format.js";
import { html, type SafeHtml } from "./html.js";
import { wasFineTuned } from "./summary.js";

interface Row {
  readonly group: string;
  readonly label: string;
  readonly value: (snapshot: Snapshot) => number | null;
  readonly write: (value: number | null) => string;
  /** How the change to the written network is told. */
  readonly change: (difference: number) => string;
}

const kPercentRow = { write: formatPercent, change: formatPoints };
const kLossRow = {
  write: (value: number | null) => formatNumber(value),
  change: (difference: number) =>
    `${difference > 0 ? "+" : ""}${formatNumber(difference, 3).replace("-", "−")}`,
};

const kRows: readonly Row[] = [
  { group: "Forget accuracy", label: "training", value: (s) => s.forget.train, ...kPercentRow },
  { group: "Forget accuracy", label: "test", value: (s) => s.forget.test, ...kPercentRow },
  { group: "Remain accuracy", label: "training", value: (s) => s.remain.train, ...kPercentRow },
  { group: "Remain accuracy", label: "test", value: (s) => s.remain.test, ...kPercentRow },
  { group: "Loss (nats)", label: "forget", value: (s) => s.loss.forget, ...kLossRow },
  { group: "Loss (nats)", label: "remain", value: (s) => s.loss.remain, ...kLossRow },
  { group: "Linear probe", label: "forget", value: (s) => s.probe?.forget ?? null, ...kPercentRow },
  { group: "Linear probe", label: "remain", value: (s) => s.probe?.remain ?? null, ...kPercentRow },
];

interface Column {
  readonly heading: string;
  readonly snapshot: Snapshot;
  readonly written: boolean;
}

function columnsOf(metrics: RunMetrics): Column[] {
  const { before, maskedOnly, after, retrained } = metrics;
  const heading = [
    "Masked",
    ...(hasNewHead(metrics) ? ["new head"] : []),
    ...(wasFineTuned(metrics) ? ["fine-tuned"] : []),
  ].join(" + ");
  return [
    { heading: "Before", snapshot: before, written: false },
    ...(maskedOnly === null ? [] : [{ heading: "Masked", snapshot: maskedOnly, written: false }]),
    { heading, snapshot: after, written: true },
    ...(retrained === null ? [] : [{ heading: "Retrained", snapshot: retrained, written: false }]),
  ];
}

function changeOf(row: Row, metrics: RunMetrics): string {
  const [before, after] = [row.value(metrics.before), row.value(metrics.after)];
  return before === null || after === null ? "" : row.change(after - before);
}

function groupHeading(row: Row, index: number): SafeHtml | null {
  return kRows[index - 1]?.group === row.group
    ? null
    : html`<th scope="rowgroup" rowspan="2">${row.group}</th>`;
}

function bodyRow(
  row: Row,
  index: number,
  columns: readonly Column[],
  metrics: RunMetrics,
): SafeHtml {
  const first = kRows[index - 1]?.group !== row.group;
  const cells = columns.map(({ snapshot, written }) => {
    const value = row.write(row.value(snapshot));
    return written
      ? html`<td class="written">${value}</td><td class="change">${changeOf(row, metrics)}</td>`
      : html`<td>${value}</td>`;
  });
  return html`<tr${first ? html` class="first"` : null}>${groupHeading(row, index)}<th scope="row">${row.label}</th>${cells}</tr>`;
}

/** The table of all four corners (forget/remain × training/test), losses and probe, for every network that was measured. */
export function resultsSection(metrics: RunMetrics): SafeHtml {
  const columns = columnsOf(metrics);
  const headings = columns.map(({ heading, written }) =>
    written
      ? html`<th scope="col" class="written">${heading}</th><th scope="col" class="change">Change</th>`
      : html`<th scope="col">${heading}</th>`,
  );
  const body = kRows.map((row, index) => bodyRow(row, index, columns, metrics));
  return html`<section><h2>Results</h2>
<div class="scroll"><table class="results"><thead><tr><th colspan="2"></th>${headings}</tr></thead>
<tbody>${body}</tbody></table></div>
<p class="note">The shaded column is the network that was written. Change is that of the written network against before, in percentage points or nats. “–” was not measured.</p></section>`;
}
