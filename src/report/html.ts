import { cleanText, escapeHtml } from "./text.js";

/** Markup that is known to be safe: made by {@link html} or by a trusted renderer. */
export class SafeHtml {
  readonly markup: string;

  constructor(markup: string) {
    this.markup = markup;
  }
}

// An empty name would leave a hole in a sentence.
const kNoName = "(no name)";

export type HtmlValue = string | number | null | SafeHtml | readonly HtmlValue[];

// Long enough for every sentence of ours; names from outside are cut far shorter by `named`.
const kMaxStringLength = 4000;

function toMarkup(value: HtmlValue): string {
  if (value instanceof SafeHtml) {
    return value.markup;
  }
  if (value === null) {
    return "";
  }
  if (typeof value === "string" || typeof value === "number") {
    return escapeHtml(cleanSentence(String(value)));
  }
  return value.map(toMarkup).join("");
}

// cleanText trims; the space at the border of a sentence's part must live.
function cleanSentence(text: string): string {
  const lead = text.startsWith(" ") ? " " : "";
  const trail = text.length > 1 && text.endsWith(" ") ? " " : "";
  return `${lead}${cleanText(text, kMaxStringLength)}${trail}`;
}

/** A template tag: everything put into the template is cleaned and escaped, unless it is {@link SafeHtml} already. */
export function html(parts: TemplateStringsArray, ...values: readonly HtmlValue[]): SafeHtml {
  const pieces = parts.map((part, i) => (i < values.length ? part + toMarkup(values[i]!) : part));
  return new SafeHtml(pieces.join(""));
}

/** A name from outside: cleaned, cut to `maxLength` code points, and isolated from the direction of its surroundings. */
export function named(name: string, maxLength = 80): SafeHtml {
  return new SafeHtml(`<bdi>${escapeHtml(cleanText(name, maxLength) || kNoName)}</bdi>`);
}

export const EMPTY_HTML = new SafeHtml("");
