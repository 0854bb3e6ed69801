/** For a page of its own: in the browser's dark mode the same shapes in the report's dark colours. */
const DARK: Readonly<Record<string, string>> = {
  "#6b7280": "#a7b0bb",
  "#0072b2": "#4fb0ea",
  "#d98a00": "#f0b040",
  "#009e73": "#3fcf9f",
  "#d55e00": "#ff8a3d",
  "#a8487f": "#e59ac6",
  "#b6bcc6": "#56616e",
  "#ffffff": "#171c23",
};
const kInk = "#1b1f24";
const kDarkInk = "#e5e9ee";
const kMargin = 16;

function darkRules(): string {
  return Object.entries(DARK)
    .map(([light, dark]) => `[fill="${light}"]{fill:${dark}}[stroke="${light}"]{stroke:${dark}}`)
    .join("");
}

// HTML takes "<" within an attribute as it is; XML, which a file of its own is read as, does not.
function escapeAttributes(svg: string): string {
  return svg.replaceAll(/="[^"]*"/g, (value) => value.replaceAll("<", "&lt;"));
}

/**
 * A plot of {@link drawPlot} as a file of its own: on a surface with a margin, readable on light and on dark, plain colours
 * where the report has custom properties, which many viewers of SVG do not know.
 */
export function standaloneSvg(svg: string): string {
  const tag = /^<svg(?: [\w:-]+="[^"]*")*>/.exec(svg)?.[0] ?? "";
  const [, width, height] = / viewBox="0 0 (\d+) (\d+)"/.exec(tag) ?? [];
  if (width === undefined) return svg;
  const wide = Number(width) + 2 * kMargin;
  const high = Number(height) + 2 * kMargin;
  const opening = tag
    .replace(/ viewBox="[^"]*"/, ` viewBox="-${kMargin} -${kMargin} ${wide} ${high}"`)
    .replace(/ width="[^"]*"/, ` width="${wide}"`)
    .replace(/ height="[^"]*"/, ` height="${high}"`);
  const style = `<style>svg{color:${kInk}}@media (prefers-color-scheme:dark){svg{color:${kDarkInk}}${darkRules()}}</style>`;
  const surface = `<rect x="-${kMargin}" y="-${kMargin}" width="${wide}" height="${high}" fill="#ffffff"/>`;
  const body = svg.slice(tag.length).replaceAll(/var\(--fm-[a-z]+, (#[0-9a-f]{6})\)/g, "$1");
  return `${escapeAttributes(`${opening}${style}${surface}${body}`)}\n`;
}
