import type { RunMetrics, SampleImage } from "../evaluate/run-metrics.js";
import { DEFINITIONS } from "./definitions.js";
import { figure } from "./figure.js";
import { EMPTY_HTML, html, named, SafeHtml } from "./html.js";
import { plotClasses, plotScores, plotTensors } from "./plots.js";
import { courseSection } from "./section-course.js";
import { stageTable } from "./section-mask-stages.js";
import { resultsSection } from "./section-results.js";
import { runSection, stagesSection, warningsSection } from "./section-run.js";
import { samplesSection } from "./section-samples.js";
import { tensorTable } from "./section-tensors.js";
import { tiles } from "./section-tiles.js";
import { REPORT_STYLE } from "./style.js";
import { summaryParagraph, whatWasAsked } from "./summary.js";
import { findings, isHidden } from "./verdict.js";

// Nothing may be loaded and nothing may run: what a hostile name could smuggle in has no effect.
const kPolicy =
  "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'";

function header(metrics: RunMetrics): SafeHtml {
  return html`<header><p class="brand">fishermask</p><h1>Unlearning report</h1>
<p class="subtitle">${named(metrics.model.arch, 60)}, asked to forget ${whatWasAsked(metrics)} · ${named(metrics.createdAt, 40)}</p></header>`;
}

function summarySection(metrics: RunMetrics): SafeHtml {
  const items = findings(metrics).map(
    ({ level, title, text }) => html`<li class="${level}"><b>${title}</b> ${text}</li>`,
  );
  return html`<section><h2>Summary</h2>${summaryParagraph(metrics)}${
    items.length > 0 ? html`<ul class="findings">${items}</ul>` : null
  }<p class="note">These are measurements on the samples named here: evidence of how the written network behaves, no proof that nothing of the data is left in it.</p></section>`;
}

function classesSection(metrics: RunMetrics): SafeHtml {
  const hidden = isHidden(metrics)
    ? " These are the answers at the output; the features still tell the forgotten class apart."
    : "";
  const classes = figure(
    plotClasses(metrics),
    `The longer the bar between the two marks, the more the class changed. The shaded rows should move far to the left; all others should stay.${hidden}`,
  );
  return classes.markup === ""
    ? EMPTY_HTML
    : html`<section><h2>Class by class</h2>${classes}</section>`;
}

function maskSection(metrics: RunMetrics): SafeHtml {
  const plots = html`${figure(
    plotTensors(metrics),
    "Masking the classifier's head, the last tensor of the network, hides a class; masking further in changes the features. A head that was excluded does not appear here.",
  )}${figure(
    plotScores(metrics),
    "Each column counts the units whose score falls there; the leftmost one holds those at or next to 0. Masked are the largest scores, from the threshold on.",
  )}`;
  return plots.markup === ""
    ? EMPTY_HTML
    : html`<section><h2>Where the mask falls</h2>${stageTable(metrics)}${plots}${tensorTable(metrics)}</section>`;
}

function definitionsSection(): SafeHtml {
  const terms = DEFINITIONS.map(([term, meaning]) => html`<dt>${term}</dt><dd>${meaning}</dd>`);
  return html`<section><h2>How to read this</h2>
<p>Look at three things together: how far the forget accuracy fell, what the remaining accuracy paid for it, and whether the linear probe still finds in the features what the output no longer says. Where there is a retrained network, it is the yardstick for all three.</p>
<dl class="terms">${terms}</dl></section>`;
}

/**
 * Renders one run as a self-contained HTML document: no script, no external resource, nothing but text, SVG and PNG as `data:`
 * URIs, under a policy that allows no more. Every string from outside is cleaned, cut and escaped.
 *
 * @param metrics accuracies as fractions, times in seconds, losses in nats per sample
 * @param samples images (H, W, C) of the forget set; those that are no picture (more than 4 channels) are told in words
 * @returns the document's text, to be written as UTF-8
 */
export function renderReport(metrics: RunMetrics, samples: readonly SampleImage[]): string {
  const title = html`Unlearning report: ${metrics.model.arch.slice(0, 60)}`;
  const style = new SafeHtml(REPORT_STYLE);
  const document = html`<!doctype html>
<html lang="en" dir="ltr">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${new SafeHtml(kPolicy)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>${title}</title>
<style>${style}</style>
</head>
<body>
<main>
${header(metrics)}
${tiles(metrics)}
${summarySection(metrics)}
${resultsSection(metrics)}
${classesSection(metrics)}
${maskSection(metrics)}
${courseSection(metrics)}
${samplesSection(samples)}
${stagesSection(metrics)}
${warningsSection(metrics)}
${runSection(metrics)}
${definitionsSection()}
<footer>Made by fishermask ${named(metrics.fishermask, 40)}. Figures come from metrics.json of the same run.</footer>
</main>
</body>
</html>
`;
  return document.markup;
}
