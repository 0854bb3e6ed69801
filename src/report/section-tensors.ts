import type { RunMetrics } from "../evaluate/run-metrics.js";
import { formatCount, formatShare } from "./format.js";
import { EMPTY_HTML, html, named, type SafeHtml } from "./html.js";
import { heaviestRows, type TensorRow, tensorRows } from "./tensor-rows.js";

const kMaxRows = 300;

function bodyRow(row: TensorRow, units: number): SafeHtml {
  const ofMask = units > 0 ? row.masked / units : null;
  return html`<tr><th scope="row" class="code">${named(row.name)}</th><td>${formatCount(row.masked)}</td><td>${formatCount(row.total)}</td><td>${formatShare(row.share)}</td><td>${formatShare(ofMask)}</td></tr>`;
}

/** Every tensor with its masked units, candidates and shares, folded up below the plot; at most 300 rows. */
export function tensorTable(metrics: RunMetrics): SafeHtml {
  const { masked } = metrics;
  const all = tensorRows(masked);
  if (all.length === 0) {
    return EMPTY_HTML;
  }
  const rows = heaviestRows(all, kMaxRows);
  const rest = all.length - rows.length;
  return html`<details><summary>The figures per tensor</summary><div class="scroll"><table class="list"><thead><tr><th scope="col">Tensor</th><th scope="col">Masked</th><th scope="col">Candidates</th><th scope="col">Share of tensor</th><th scope="col">Share of mask</th></tr></thead>
<tbody>${rows.map((row) => bodyRow(row, masked.units))}</tbody></table></div>${
    rest > 0
      ? html`<p class="note">${rest} tensors with fewer masked units are not listed.</p>`
      : null
  }</details>`;
}
