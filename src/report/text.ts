/**
 * Makes strings from outside (tensor, class and file names, warnings) harmless to show in a page or on a terminal.
 */

// Cc holds the terminal's escape character; bidi controls could make text read as what it is not ("Trojan source").
const kUnsafe = /[\p{Cc}\p{Bidi_Control}\p{Zl}\p{Zp}\u200B\uFEFF\uFFF9-\uFFFB]+/gu;
const kLoneSurrogate = /\p{Cs}/gu;
const kEscapes: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

export const DEFAULT_TEXT_LENGTH = 120;

/**
 * One line of printable text: control, bidi-control and zero-width characters become a single space, lone surrogates
 * U+FFFD, and what is longer than `maxLength` code points ends in "…".
 */
export function cleanText(text: string, maxLength: number = DEFAULT_TEXT_LENGTH): string {
  // A code point takes at most two UTF-16 units: cutting first keeps a name of many megabytes cheap.
  const head = text.slice(0, 4 * maxLength + 4);
  const safe = head.replace(kUnsafe, " ").replace(kLoneSurrogate, "\uFFFD").trim();
  const points = Array.from(safe);
  const cut = head.length < text.length || points.length > maxLength;
  return cut ? `${points.slice(0, Math.max(0, maxLength - 1)).join("")}…` : safe;
}

/** Escapes the five characters that mean something in HTML text and in quoted attributes. */
export function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => kEscapes[character] ?? character);
}
