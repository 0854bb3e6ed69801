import type { RunMetrics } from "../evaluate/run-metrics.js";
import { formatCount, formatPercent } from "./format.js";
import { EMPTY_HTML, html, named, type SafeHtml } from "./html.js";
import { type TensorGroup, tensorGroups } from "./tensor-groups.js";
import { tensorRows } from "./tensor-rows.js";

function bodyRow(group: TensorGroup, units: number, total: number): SafeHtml {
  const ofMask = units > 0 ? group.masked / units : 0;
  const ofCandidates = total > 0 ? group.total / total : 0;
  const bar =
    group.masked > 0 ? html`<span style="width:${(100 * ofMask).toFixed(2)}%"></span>` : null;
  return html`<tr><th scope="row" class="code">${named(group.name, 34)}</th><td>${formatPercent(ofMask)}</td><td class="bar">${bar}</td><td>${formatPercent(ofCandidates)}</td><td>${formatCount(group.tensors)}</td></tr>`;
}

/** Where the mask sits from the input to the output, a bar for each stage; empty without a mask or with a single stage. */
export function stageTable(metrics: RunMetrics): SafeHtml {
  const groups = tensorGroups(tensorRows(metrics.masked).filter((row) => row.total > 0));
  const units = groups.reduce((sum, group) => sum + group.masked, 0);
  const total = groups.reduce((sum, group) => sum + group.total, 0);
  if (groups.length < 2 || units === 0) {
    return EMPTY_HTML;
  }
  return html`<div class="scroll"><table class="list stages"><thead><tr><th scope="col">Stage</th><th scope="col">Of the mask</th><td></td><th scope="col">Of the candidates</th><th scope="col">Tensors</th></tr></thead>
<tbody>${groups.map((group) => bodyRow(group, units, total))}</tbody></table></div>
<p class="note gap">Stages stand in network order, the input at the top. A mask that falls anywhere alike has as much of the mask as of the candidates in every stage.</p>`;
}
