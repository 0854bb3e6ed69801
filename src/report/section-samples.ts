import type { SampleImage } from "../evaluate/run-metrics.js";
import { EMPTY_HTML, html, named, SafeHtml } from "./html.js";
import { isPngImage, pngDataUri } from "./png.js";
import { cleanText } from "./text.js";

const kMaxSamples = 48;
const kMaxNameLength = 28;

function picture(sample: SampleImage): SafeHtml {
  if (!isPngImage(sample)) {
    return html`<div class="no-picture">${sample.channels} channels, ${sample.height} × ${sample.width}: no picture</div>`;
  }
  // Base64 needs no escaping, and is longer than what the template lets through.
  const source = new SafeHtml(pngDataUri(sample));
  const alt = `Sample ${sample.index}, labelled ${cleanText(sample.label, kMaxNameLength)}`;
  return html`<img src="${source}" width="${sample.width}" height="${sample.height}" alt="${alt}">`;
}

function card(sample: SampleImage): SafeHtml {
  const verdict = sample.after === sample.label ? "kept" : "lost";
  return html`<figure class="sample">${picture(sample)}<figcaption>
<span class="label">${named(sample.label, kMaxNameLength)}</span>
<span class="prediction">${named(sample.before, kMaxNameLength)} → <b class="${verdict}">${named(sample.after, kMaxNameLength)}</b></span>
<span class="index">sample ${sample.index}</span></figcaption></figure>`;
}

/** A gallery of forget samples with label and prediction before → after; at most 48. */
export function samplesSection(samples: readonly SampleImage[]): SafeHtml {
  if (samples.length === 0) {
    return EMPTY_HTML;
  }
  const shown = samples.slice(0, kMaxSamples);
  const rest = samples.length - shown.length;
  return html`<section><h2>Samples of the forget set</h2>
<p class="note">Label, then what the network said before → what the written network says.${rest > 0 ? ` ${rest} more samples are not shown.` : ""}</p>
<div class="gallery">${shown.map(card)}</div></section>`;
}
