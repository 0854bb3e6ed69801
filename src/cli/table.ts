import { cleanText } from "../report/text.js";

export { formatPercent, formatSeconds } from "../report/format.js";

/** One column of a plain-text table. */
export interface TableColumn<Row> {
  readonly header: string;
  /** Left by default; figures read best aligned right. */
  readonly align?: "left" | "right";
  /** Terminal cells; what is wider ends in "…". 60 by default. */
  readonly maxWidth?: number;
  readonly value: (row: Row) => string;
}

const kGap = "  ";
const kDefaultMaxWidth = 60;
const kGraphemes = new Intl.Segmenter("en", { granularity: "grapheme" });
// East Asian wide and fullwidth blocks: two cells each.
const kWide =
  /^[\u1100-\u115F\u2E80-\u303E\u3041-\uA4CF\uA960-\uA97F\uAC00-\uD7A3\uF900-\uFAFF\uFE30-\uFE6F\uFF01-\uFF60\uFFE0-\uFFE6\u{20000}-\u{3FFFD}]/u;
const kEmoji = /^\p{Emoji_Presentation}|\uFE0F/u;
const kZeroWidth = /^[\p{Mn}\p{Me}\p{Cf}]+$/u;

function graphemeWidth(grapheme: string): number {
  if (kZeroWidth.test(grapheme)) {
    return 0;
  }
  return kWide.test(grapheme) || kEmoji.test(grapheme) ? 2 : 1;
}

function graphemes(text: string): string[] {
  return Array.from(kGraphemes.segment(text), ({ segment }) => segment);
}

/** How many terminal cells the text takes: wide East Asian characters and emoji two, combining marks none. */
export function displayWidth(text: string): number {
  return graphemes(text).reduce((width, grapheme) => width + graphemeWidth(grapheme), 0);
}

/** The text, cut to `width` terminal cells with "…" at its end where it was longer. */
export function truncateToWidth(text: string, width: number): string {
  if (displayWidth(text) <= width) {
    return text;
  }
  let used = 1;
  let kept = "";
  for (const grapheme of graphemes(text)) {
    used += graphemeWidth(grapheme);
    if (used > width) {
      break;
    }
    kept += grapheme;
  }
  return width < 1 ? "" : `${kept}…`;
}

function pad(text: string, width: number, align: "left" | "right"): string {
  const space = " ".repeat(Math.max(0, width - displayWidth(text)));
  return align === "right" ? space + text : text + space;
}

function cell(text: string, column: { readonly maxWidth?: number }): string {
  const width = column.maxWidth ?? kDefaultMaxWidth;
  return truncateToWidth(cleanText(text, 4 * width), width);
}

/**
 * A table in plain text, columns aligned and two spaces apart, a rule under the header; no line ends in spaces. Control
 * characters (and with them terminal escapes) in cells are blanked.
 *
 * @returns lines joined by "\n", without one at the end; "" without columns
 */
export function formatTable<Row>(
  rows: readonly Row[],
  columns: readonly TableColumn<Row>[],
): string {
  const grid = [
    columns.map((column) => cell(column.header, column)),
    ...rows.map((row) => columns.map((column) => cell(column.value(row), column))),
  ];
  const widths = columns.map((_, i) =>
    grid.reduce((most, line) => Math.max(most, displayWidth(line[i] ?? "")), 0),
  );
  const lines = grid.map((line) =>
    line.map((text, i) => pad(text, widths[i] ?? 0, columns[i]?.align ?? "left")).join(kGap),
  );
  const rule = widths.map((width) => "─".repeat(width)).join(kGap);
  return [...lines.slice(0, 1), rule, ...lines.slice(1)]
    .map((line) => line.trimEnd())
    .join("\n")
    .trimEnd();
}
