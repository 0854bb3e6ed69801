/**
 * Colours of the plots, from Okabe and Ito's palette, which people with any common colour blindness can tell apart.
 * Each is a custom property, so that the report can lighten it on a dark page; the fallback serves an SVG on its own.
 * Every series also has its own shape or dash: the plots stay readable in grey.
 * Source: Okabe, Ito, "Color Universal Design", 2008.
 */
export const COLOUR = {
  before: "var(--fm-before, #6b7280)",
  after: "var(--fm-after, #0072b2)",
  masked: "var(--fm-masked, #d98a00)",
  retrained: "var(--fm-retrained, #009e73)",
  forgotten: "var(--fm-forgotten, #d55e00)",
  probe: "var(--fm-probe, #a8487f)",
  neutral: "var(--fm-neutral, #b6bcc6)",
  surface: "var(--fm-surface, #ffffff)",
} as const;
