// The little of SVG that the study's pictures need: stand-alone, white ground, text escaped.
const FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif";
const INK = "#1b1f24";
const SOFT = "#5b6470";

const escaped = (text) =>
  String(text).replace(
    /[&<>"]/g,
    (sign) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[sign],
  );
const number = (value) => (typeof value === "number" ? String(Number(value.toFixed(2))) : value);

export function element(name, attributes, ...children) {
  const written = Object.entries(attributes).map(
    ([key, value]) => ` ${key}="${escaped(number(value))}"`,
  );
  return `<${name}${written.join("")}>${children.join("")}</${name}>`;
}

export function text(x, y, content, attributes = {}) {
  return element("text", { x, y, fill: INK, ...attributes }, escaped(content));
}

export function line(x1, y1, x2, y2, attributes = {}) {
  return element("line", { x1, y1, x2, y2, stroke: INK, "stroke-width": 1, ...attributes });
}

/** The whole picture; `title` and `description` are for those who cannot see it. */
export function picture({ width, height, title, description }, ...children) {
  return `${element(
    "svg",
    {
      xmlns: "http://www.w3.org/2000/svg",
      viewBox: `0 0 ${width} ${height}`,
      width,
      height,
      role: "img",
      "font-family": FONT,
      "font-size": 12,
    },
    element("title", {}, escaped(title)),
    element("desc", {}, escaped(description)),
    element("rect", { width, height, fill: "#ffffff" }),
    text(16, 26, title, { "font-size": 15, "font-weight": 600 }),
    ...children,
  )}\n`;
}

/** A point's sign; every series has its own, so that the pictures stay readable in grey. */
export function symbol(shape, x, y, colour, size = 5) {
  const solid = { fill: colour, "fill-opacity": 0.85 };
  const paths = {
    triangle: `M${number(x)},${number(y - size)}l${size},${1.8 * size}h${-2 * size}z`,
    inverted: `M${number(x)},${number(y + size)}l${size},${-1.8 * size}h${-2 * size}z`,
    diamond: `M${number(x)},${number(y - 1.2 * size)}l${size},${1.2 * size}l${-size},${1.2 * size}l${-size},${-1.2 * size}z`,
    cross: `M${number(x - size)},${number(y - size)}l${2 * size},${2 * size}m0,${-2 * size}l${-2 * size},${2 * size}`,
    plus: `M${number(x - size)},${number(y)}h${2 * size}m${-size},${-size}v${2 * size}`,
  };
  if (shape === "circle") return element("circle", { cx: x, cy: y, r: size * 0.9, ...solid });
  if (shape === "square") {
    return element("rect", {
      x: x - size * 0.85,
      y: y - size * 0.85,
      width: size * 1.7,
      height: size * 1.7,
      ...solid,
    });
  }
  if (shape === "cross" || shape === "plus") {
    return element("path", { d: paths[shape], fill: "none", stroke: colour, "stroke-width": 2 });
  }
  return element("path", { d: paths[shape], ...solid });
}

/** Round steps: at most about `count` ticks from the least to the most. */
function ticksOf([least, most], count) {
  const rough = (most - least) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((each) => each >= rough * 0.999);
  const first = Math.ceil(least / step - 1e-9);
  const last = Math.floor(most / step + 1e-9);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  return Array.from({ length: last - first + 1 }, (_, i) => (first + i) * step).map((value) => ({
    value,
    label: value.toFixed(digits),
  }));
}

/** A frame with axes: {marks, x, y}, `x` and `y` from data to picture. */
export function frame({ left, top, width, height, xDomain, yDomain, xLabel, yLabel, ticks = 5 }) {
  const scale =
    ([least, most], from, to) =>
    (value) =>
      from + ((value - least) / (most - least)) * (to - from);
  const x = scale(xDomain, left, left + width);
  const y = yDomain === undefined ? undefined : scale(yDomain, top + height, top);
  const grid = { stroke: "#e1e5ea" };
  const bottom = top + height;
  const marks = [
    ...ticksOf(xDomain, ticks).flatMap(({ value, label }) => [
      line(x(value), top, x(value), bottom, grid),
      text(x(value), bottom + 17, label, { "text-anchor": "middle", fill: SOFT }),
    ]),
    ...(yDomain === undefined
      ? []
      : ticksOf(yDomain, ticks).flatMap(({ value, label }) => [
          line(left, y(value), left + width, y(value), grid),
          text(left - 8, y(value) + 4, label, { "text-anchor": "end", fill: SOFT }),
        ])),
    line(left, bottom, left + width, bottom, { stroke: SOFT }),
    line(left, top, left, bottom, { stroke: SOFT }),
    text(left + width / 2, bottom + 38, xLabel, { "text-anchor": "middle" }),
  ];
  if (yLabel !== undefined) {
    const middle = top + height / 2;
    marks.push(
      text(left - 44, middle, yLabel, {
        "text-anchor": "middle",
        transform: `rotate(-90 ${number(left - 44)} ${number(middle)})`,
      }),
    );
  }
  return { marks, x, y };
}
