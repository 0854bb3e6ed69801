import type { RunMetrics } from "../evaluate/run-metrics.js";
import { formatCount, formatPercent, formatSeconds, NOT_MEASURED } from "./format.js";
import { EMPTY_HTML, type HtmlValue, html, named, type SafeHtml } from "./html.js";
import { totalSeconds } from "./summary.js";

const kMaxStages = 200;
const kMaxWarnings = 100;
const kMaxWarningLength = 600;
const kMaxConfigRows = 200;
const kMaxConfigDepth = 4;
const kMaxValueLength = 200;

/** Seconds per stage with a bar, as long as it took beside the longest. */
export function stagesSection(metrics: RunMetrics): SafeHtml {
  const total = totalSeconds(metrics);
  if (total === null) {
    return EMPTY_HTML;
  }
  const longest = metrics.stages.reduce((most, stage) => Math.max(most, stage.seconds), 0);
  const rows = metrics.stages.slice(0, kMaxStages).map(({ name, seconds }) => {
    const share = total > 0 ? seconds / total : 0;
    const length = longest > 0 ? seconds / longest : 0;
    return html`<tr><th scope="row">${named(name)}</th><td>${formatSeconds(seconds)}</td><td>${formatPercent(share)}</td><td class="bar"><span style="width:${barWidth(length)}%"></span></td></tr>`;
  });
  return html`<section><h2>Time per stage</h2><div class="scroll"><table class="list stages"><tbody>${rows}</tbody>
<tfoot><tr><th scope="row">All stages</th><td>${formatSeconds(total)}</td><td></td><td></td></tr></tfoot></table></div></section>`;
}

function barWidth(share: number): string {
  return (100 * Math.min(1, Math.max(0, share))).toFixed(2);
}

/** What the run warned of, word for word; says so when it warned of nothing. */
export function warningsSection(metrics: RunMetrics): SafeHtml {
  const { warnings } = metrics;
  if (warnings.length === 0) {
    return html`<section><h2>Warnings</h2><p>None.</p></section>`;
  }
  const shown = warnings.slice(0, kMaxWarnings);
  const rest = warnings.length - shown.length;
  return html`<section><h2>Warnings</h2><ul class="warnings">${shown.map(
    (warning) => html`<li>${named(warning, kMaxWarningLength)}</li>`,
  )}</ul>${rest > 0 ? html`<p class="note">${rest} more are in metrics.json.</p>` : null}</section>`;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function writeValue(value: unknown): string {
  if (value === null || value === undefined) {
    return NOT_MEASURED;
  }
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

// Nested options as dotted keys; what lies deeper than four levels is written as JSON.
function flatten(
  record: Readonly<Record<string, unknown>>,
  prefix: string,
  depth: number,
): [string, string][] {
  return Object.entries(record).flatMap(([key, value]): [string, string][] =>
    isRecord(value) && depth < kMaxConfigDepth
      ? flatten(value, `${prefix}${key}.`, depth + 1)
      : [[prefix + key, writeValue(value)]],
  );
}

function pairs(rows: readonly (readonly [HtmlValue, HtmlValue])[]): SafeHtml {
  return html`<dl class="pairs">${rows.map(([key, value]) => html`<div><dt>${key}</dt><dd>${value}</dd></div>`)}</dl>`;
}

function code(text: string): SafeHtml {
  return html`<code>${named(text, kMaxValueLength)}</code>`;
}

/** `cpu`, or a CUDA device with its driver's name for it and what its matrix products read. */
function deviceName({ used, name, precision }: RunMetrics["device"]): SafeHtml {
  const more = [name, precision]
    .filter((part) => part !== undefined)
    .map((part) => html`, ${named(part, 60)}`);
  return html`${named(used, 40)}${more}`;
}

function environment(metrics: RunMetrics): SafeHtml {
  const { device, model, data, seed } = metrics;
  const { counts } = data;
  return pairs([
    ["fishermask", named(metrics.fishermask, 40)],
    ["Made at", named(metrics.createdAt, 40)],
    [
      "Device",
      html`${deviceName(device)} (asked for: ${named(device.requested, 40)}), ${device.threads} threads`,
    ],
    ["Seed", String(seed)],
    ["Model", html`${named(model.arch, 60)}, ${formatCount(model.parameters)} parameters`],
    ["Model file", model.file === null ? NOT_MEASURED : code(model.file)],
    ["Model SHA-256", model.sha256 === null ? NOT_MEASURED : code(model.sha256)],
    ["Data", code(data.source)],
    ["Request", code(data.forget)],
    [
      "Training samples",
      `${formatCount(counts.forgetTrain)} forget, ${formatCount(counts.remainTrain)} remain`,
    ],
    [
      "Test samples",
      `${formatCount(counts.forgetTest)} forget, ${formatCount(counts.remainTest)} remain`,
    ],
    ["Method", named(metrics.method, 60)],
    ["Preset", metrics.preset === null ? "none" : named(metrics.preset, 60)],
  ]);
}

/** Environment, digests and the resolved configuration: what it takes to run this again. */
export function runSection(metrics: RunMetrics): SafeHtml {
  const config = flatten(metrics.config, "", 1);
  const shown = config
    .slice(0, kMaxConfigRows)
    .map(([key, value]) => [named(key), code(value)] as const);
  const rest = config.length - shown.length;
  const options =
    shown.length === 0
      ? EMPTY_HTML
      : html`<h3>Configuration</h3>${pairs(shown)}${rest > 0 ? html`<p class="note">${rest} more keys are in metrics.json.</p>` : null}`;
  return html`<section><h2>How to run this again</h2><h3>Environment and digests</h3>${environment(metrics)}${options}</section>`;
}
