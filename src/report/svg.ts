import { type Markish, type PlotOptions, plot } from "@observablehq/plot";
import { parseHTML } from "linkedom";
import { cleanText } from "./text.js";

/** Width of every plot in its own units; the page scales it down. */
export const PLOT_WIDTH = 900;

const kSvgNamespace = "http://www.w3.org/2000/svg";
const kHeaderHeight = 64;
const kTitleBaseline = 20;
const kLegendBaseline = 46;
// An average glyph of a sans-serif at 12 px; only the gaps of the legend depend on it.
const kGlyphWidth = 6.9;
const kMaxTextLength = 4000;
const kCoordinates = [
  "d",
  "transform",
  "x",
  "y",
  "x1",
  "x2",
  "y1",
  "y2",
  "cx",
  "cy",
  "width",
  "height",
];

/** The little of the DOM that is needed here; the library's own types want the browser's. */
interface SvgElement {
  readonly outerHTML: string;
  textContent: string;
  setAttribute(name: string, value: string): void;
  getAttribute(name: string): string | null;
  removeAttribute(name: string): void;
  append(...children: SvgElement[]): void;
  remove(): void;
  querySelectorAll(selector: string): Iterable<SvgElement>;
}

interface SvgDocument {
  createElementNS(namespace: string, name: string): SvgElement;
}

export type LegendShape = "dot" | "ring" | "triangle" | "diamond" | "box" | "line" | "dash";

export interface LegendEntry {
  readonly label: string;
  readonly shape: LegendShape;
  readonly colour: string;
}

/** One coordinate system of a plot; two stand side by side. */
export interface Panel {
  readonly x: number;
  readonly width: number;
  readonly options: Omit<PlotOptions, "document" | "width" | "marks"> & { marks: Markish[] };
}

export interface PlotSpec {
  /** Drawn above the plot, and its accessible name. */
  readonly title: string;
  /** What the plot shows, in a sentence with its figures: for those who cannot see it. */
  readonly description: string;
  readonly legend: readonly LegendEntry[];
  readonly height: number;
  readonly panels: readonly Panel[];
}

function element(
  document: SvgDocument,
  name: string,
  attributes: Readonly<Record<string, string | number>>,
  text?: string,
): SvgElement {
  const node = document.createElementNS(kSvgNamespace, name);
  for (const [key, value] of Object.entries(attributes)) {
    node.setAttribute(key, String(value));
  }
  if (text !== undefined) {
    node.textContent = cleanText(text, kMaxTextLength);
  }
  return node;
}

function legendSymbol(document: SvgDocument, entry: LegendEntry, x: number, y: number): SvgElement {
  const solid = { fill: entry.colour, stroke: "none" };
  const open = { fill: "none", stroke: entry.colour, "stroke-width": 2 };
  switch (entry.shape) {
    case "dot":
      return element(document, "circle", { cx: x, cy: y, r: 4.5, ...solid });
    case "ring":
      return element(document, "circle", { cx: x, cy: y, r: 4, ...open });
    case "triangle":
      return element(document, "path", { d: `M${x},${y - 5}l5,9h-10z`, ...solid });
    case "diamond":
      return element(document, "path", { d: `M${x},${y - 6}l5,6l-5,6l-5,-6z`, ...solid });
    case "box":
      return element(document, "rect", { x: x - 6, y: y - 5, width: 12, height: 10, ...solid });
    case "line":
      return element(document, "path", { d: `M${x - 8},${y}h16`, ...open });
    case "dash":
      return element(document, "path", {
        d: `M${x - 8},${y}h16`,
        ...open,
        "stroke-dasharray": "4,3",
      });
  }
}

function drawLegend(document: SvgDocument, entries: readonly LegendEntry[]): SvgElement {
  const group = element(document, "g", { "aria-label": "legend" });
  let x = 8;
  for (const entry of entries) {
    group.append(legendSymbol(document, entry, x, kLegendBaseline - 4));
    group.append(element(document, "text", { x: x + 13, y: kLegendBaseline }, entry.label));
    x += 13 + kGlyphWidth * entry.label.length + 26;
  }
  return group;
}

// Coordinates to a hundredth of a pixel: the library writes all seventeen digits, which doubles the page.
function roundCoordinates(root: SvgElement): void {
  for (const node of root.querySelectorAll("*")) {
    for (const name of kCoordinates) {
      const value = node.getAttribute(name);
      if (value !== null) {
        node.setAttribute(
          name,
          value.replace(/-?\d+\.\d{3,}(?:e-\d+)?/g, (digits) =>
            String(Number(Number(digits).toFixed(2))),
          ),
        );
      }
    }
  }
}

function drawPanel(document: SvgDocument, panel: Panel, height: number): SvgElement {
  // The declared type of `document` is the browser's; linkedom's has the part that the library uses.
  const options = { ...panel.options, document, width: panel.width, height } as PlotOptions;
  const svg = plot(options) as unknown as SvgElement;
  for (const style of svg.querySelectorAll("style")) {
    style.remove();
  }
  svg.removeAttribute("class");
  svg.setAttribute("x", String(panel.x));
  svg.setAttribute("y", String(kHeaderHeight));
  svg.setAttribute("font-size", "12");
  svg.setAttribute("overflow", "visible");
  return svg;
}

/**
 * Draws the panels under one title and legend: a stand-alone SVG, 900 units wide, of `height` plus the header's 64. All text
 * is escaped by the DOM's serialiser.
 */
export function drawPlot(spec: PlotSpec): string {
  const document = parseHTML("<!doctype html><html></html>").document as unknown as SvgDocument;
  const height = spec.height + kHeaderHeight;
  const root = element(document, "svg", {
    xmlns: kSvgNamespace,
    viewBox: `0 0 ${PLOT_WIDTH} ${height}`,
    width: PLOT_WIDTH,
    height,
    role: "img",
    "aria-label": cleanText(spec.title),
    "font-family":
      "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif",
    "font-size": 12,
    fill: "currentColor",
  });
  root.append(element(document, "title", {}, spec.title));
  root.append(element(document, "desc", {}, spec.description));
  const heading = { x: 0, y: kTitleBaseline, "font-size": 15, "font-weight": 600 };
  root.append(element(document, "text", heading, spec.title));
  root.append(drawLegend(document, spec.legend));
  for (const panel of spec.panels) {
    root.append(drawPanel(document, panel, spec.height));
  }
  roundCoordinates(root);
  return root.outerHTML;
}
