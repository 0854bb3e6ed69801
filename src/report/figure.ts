import { EMPTY_HTML, html, SafeHtml } from "./html.js";

/**
 * A plot with its caption; empty when there is nothing to draw. On a narrow page the plot scrolls instead of shrinking until
 * its figures cannot be read.
 *
 * @param svg what a plot function returned: its serialiser has escaped its texts
 */
export function figure(svg: string | null, caption: string): SafeHtml {
  return svg === null
    ? EMPTY_HTML
    : html`<figure class="plot"><div class="scroll">${new SafeHtml(svg)}</div><figcaption>${caption}</figcaption></figure>`;
}
