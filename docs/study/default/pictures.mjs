// The study's pictures from its results: what was forgotten against what was kept, how it went round by round, and where the
// mask lies. Each is a stand-alone SVG text, null where there is nothing to draw.
import { element, frame, line, picture, symbol, text } from "./svg.mjs";

// Okabe and Ito's colours, which people with any common colour blindness can tell apart.
const STYLES = {
  liu2023: { colour: "#6b7280", shape: "square" },
  "liu2023-head": { colour: "#cc79a7", shape: "inverted" },
  ratio: { colour: "#d98a00", shape: "triangle" },
  prototype: { colour: "#009e73", shape: "diamond" },
  default: { colour: "#0072b2", shape: "circle" },
  deep: { colour: "#d55e00", shape: "cross" },
};
const OTHER_STYLE = { colour: "#1b1f24", shape: "plus" };
const CLASS_COLOURS = [
  "#0072b2",
  "#d55e00",
  "#009e73",
  "#cc79a7",
  "#d98a00",
  "#56b4e9",
  "#6b7280",
  "#8c510a",
  "#5e3c99",
  "#1b1f24",
];
const DASHES = ["none", "7,3", "2,3"];
const WIDTH = 900;
const SOFT = "#5b6470";

const styleOf = (row) => STYLES[row] ?? OTHER_STYLE;
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
const unique = (values) => [...new Set(values)];
const percentText = (value) => `${value.toFixed(1)} %`;

/** From a little below the least to a little above the most, within 0..100. */
function around(values, least) {
  const low = Math.min(...values);
  const high = Math.max(...values);
  const margin = Math.max((high - low) * 0.06, (least - (high - low)) / 2, 0.2);
  return [Math.max(0, low - margin), Math.min(100, high + margin)];
}

function rowLegend(rows, y) {
  let x = 16;
  return rows.map((row) => {
    const { colour, shape } = styleOf(row);
    const entry = symbol(shape, x + 6, y - 4, colour) + text(x + 18, y, row);
    x += 18 + 7.2 * row.length + 24;
    return entry;
  });
}

function scatterPanel(points, original, place) {
  const { marks, x, y } = frame({
    top: 92,
    height: 330,
    xLabel: "forgotten class, test accuracy (%)",
    yLabel: "other classes, test accuracy (%)",
    ...place,
  });
  const [low, high] = place.yDomain;
  const right = place.left + place.width;
  const reference =
    original < low || original > high
      ? []
      : [
          line(place.left, y(original), right, y(original), {
            stroke: SOFT,
            "stroke-dasharray": "5,4",
          }),
        ];
  const signs = points.map(({ row, forget, remain }) => {
    const { colour, shape } = styleOf(row);
    return symbol(shape, x(forget), y(remain), colour);
  });
  return [
    ...marks,
    ...reference,
    text(place.left, 82, place.heading, { "font-weight": 600 }),
    ...signs,
  ];
}

/** Forgotten against remaining accuracy, a point a run; beside it the corner where good runs lie. */
export function scatter(subject, entries) {
  const points = entries
    .filter(({ after }) => after.forgetTest !== null)
    .map(({ row, forget, after }) => ({
      row,
      name: forget,
      forget: 100 * after.forgetTest,
      remain: 100 * after.remainTest,
    }));
  if (points.length === 0) return null;
  const original = mean(entries.map(({ before }) => 100 * before.remainTest));
  const near = points.filter(({ forget, remain }) => forget <= 4 && remain >= original - 4);
  const closer = near.length > 0 ? near : points;
  const rows = unique(points.map(({ row }) => row));
  const forgotten = points.map(({ forget }) => forget);
  const all = {
    left: 64,
    width: 360,
    heading: `all ${points.length} runs`,
    // Room on the left, so that points at 0 are whole.
    xDomain: [-0.03 * Math.max(5, ...forgotten), 1.04 * Math.max(5, ...forgotten)],
    yDomain: around([...points.map(({ remain }) => remain), original], 4),
  };
  const mostForgotten = Math.max(1, ...closer.map(({ forget }) => forget));
  const corner = {
    left: 518,
    width: 360,
    heading: near.length > 0 ? `the good corner: ${near.length} runs` : "all runs",
    xDomain: [-0.04 * mostForgotten, 1.05 * mostForgotten],
    yDomain: around([...closer.map(({ remain }) => remain), original], 1),
  };
  return picture(
    {
      width: WIDTH,
      height: 506,
      title: `${subject}: what was forgotten against what was kept`,
      description: points
        .map(
          ({ row, name, forget, remain }) =>
            `${row}, ${name}: ${percentText(forget)}, ${percentText(remain)}`,
        )
        .join("; "),
    },
    ...rowLegend(rows, 54),
    ...scatterPanel(points, original, all),
    ...scatterPanel(closer, original, corner),
    text(
      16,
      492,
      `Better to the left and upwards. Dashed: the other classes before, ${percentText(original)} on average.`,
      {
        fill: SOFT,
      },
    ),
  );
}

const isKept = ({ rejected, remainAccuracy }) => rejected !== true && remainAccuracy !== null;

/** Round by round, forgotten accuracy falling to the left: a line a class, of the row's first seed. */
export function tradeOff(subject, row, entries) {
  const own = entries.filter((entry) => entry.row === row);
  const first = own.filter(({ seed }) => seed === own[0].seed);
  const courses = first
    .map(({ forget, rounds }) => ({
      name: forget.replace(/^class:/, ""),
      rounds: rounds.filter(isKept),
    }))
    .filter(({ rounds }) => rounds.length > 1);
  if (courses.length === 0) return null;
  const remains = courses.flatMap(({ rounds }) =>
    rounds.map(({ remainAccuracy }) => 100 * remainAccuracy),
  );
  const height = Math.max(370, 34 * courses.length);
  const place = { left: 64, top: 56, width: 640, height };
  const { marks, x, y } = frame({
    ...place,
    xDomain: [-2, 102],
    yDomain: around(remains, 2),
    xLabel: "forgotten class, accuracy on the judged training samples (%)",
    yLabel: "remaining accuracy on the watched samples (%)",
    ticks: 6,
  });
  const drawn = courses.map(({ rounds }, i) => {
    const stroke = CLASS_COLOURS[i % CLASS_COLOURS.length];
    const points = rounds.map(({ forgetAccuracy, remainAccuracy }) => [
      x(100 * forgetAccuracy),
      y(100 * remainAccuracy),
    ]);
    return (
      element("polyline", {
        points: points.map(([a, b]) => `${a.toFixed(2)},${b.toFixed(2)}`).join(" "),
        fill: "none",
        stroke,
        "stroke-width": 1.8,
        "stroke-linejoin": "round",
        "stroke-dasharray": DASHES[i % DASHES.length],
      }) +
      points.map(([a, b]) => element("circle", { cx: a, cy: b, r: 2.6, fill: stroke })).join("")
    );
  });
  const legend = courses.map(({ name, rounds }, i) => {
    const top = 88 + 34 * i;
    const stroke = CLASS_COLOURS[i % CLASS_COLOURS.length];
    const change = 100 * (rounds.at(-1).remainAccuracy - rounds[0].remainAccuracy);
    return (
      line(724, top - 4, 750, top - 4, {
        stroke,
        "stroke-width": 2,
        "stroke-dasharray": DASHES[i % DASHES.length],
      }) +
      text(758, top, name) +
      text(758, top + 14, `${rounds.length - 1} rounds, ${signed(change)}`, {
        fill: SOFT,
        "font-size": 11,
      })
    );
  });
  return picture(
    {
      width: WIDTH,
      height: height + 136,
      title: `${subject}, ${row}: the way to forgetting, round by round`,
      description: courses
        .map(({ name, rounds }) => {
          const steps = rounds.map(
            ({ forgetAccuracy, remainAccuracy }) =>
              `${percentText(100 * forgetAccuracy)}, ${percentText(100 * remainAccuracy)}`,
          );
          return `${name}: ${steps.join("; ")}`;
        })
        .join(". "),
    },
    ...marks,
    ...drawn,
    text(724, 62, "remaining accuracy", { "font-weight": 600 }),
    ...legend,
    text(
      16,
      height + 122,
      `Each dot is a kept round; time runs from right to left. Seed ${own[0].seed}.`,
      { fill: SOFT },
    ),
  );
}

function signed(points) {
  return `${points < 0 ? "−" : "+"}${Math.abs(points).toFixed(1)} points`;
}

const MOST_BARS = 30;

/** Beyond thirty tensors the blocks stand for them: layer1.0.conv1.weight → layer1.0. */
function groupOf(name, tensors) {
  return tensors > MOST_BARS
    ? name
        .split(".")
        .slice(0, 2)
        .join(".")
        .replace(/\.weight$/, "")
    : name.replace(/\.weight$/, "");
}

/** By layer: share of its units masked, in percent, for each run. */
function sharesByLayer(entries) {
  const names = Object.keys(entries[0].masked.perTensorTotal);
  const layers = unique(names.map((name) => groupOf(name, names.length)));
  return layers.map((layer) => {
    const members = names.filter((name) => groupOf(name, names.length) === layer);
    const sum = (counts) => members.reduce((total, name) => total + (counts[name] ?? 0), 0);
    const total = sum(entries[0].masked.perTensorTotal);
    return {
      layer,
      total,
      shares: entries.map(({ masked }) => (100 * sum(masked.perTensor)) / total),
    };
  });
}

/** Where the row's mask lies: by layer the mean share of units masked, with the least and the most of the runs. */
export function layers(subject, row, entries) {
  const own = entries.filter((entry) => entry.row === row && entry.masked.total > 0);
  if (own.length === 0) return null;
  const bars = sharesByLayer(own);
  const most = Math.max(0.01, ...bars.flatMap(({ shares }) => shares));
  const rowHeight = 20;
  const place = { left: 170, top: 56, width: 520, height: rowHeight * bars.length };
  const { marks, x } = frame({
    ...place,
    xDomain: [0, most * 1.02],
    xLabel: `masked ${own[0].masked.unit}s (% of the layer's)`,
  });
  const { colour } = styleOf(row);
  const drawn = bars.flatMap(({ layer, total, shares }, i) => {
    const middle = place.top + rowHeight * (i + 0.5);
    const average = mean(shares);
    return [
      element("rect", {
        x: place.left,
        y: middle - 6,
        width: x(average) - place.left,
        height: 12,
        fill: colour,
        "fill-opacity": 0.55,
      }),
      line(x(Math.min(...shares)), middle, x(Math.max(...shares)), middle, { "stroke-width": 1.5 }),
      text(place.left - 8, middle + 4, layer, { "text-anchor": "end" }),
      text(
        place.left + place.width + 12,
        middle + 4,
        `${average.toFixed(2)} % of ${total.toLocaleString("en")}`,
        {
          fill: SOFT,
        },
      ),
    ];
  });
  return picture(
    {
      width: WIDTH,
      height: place.top + place.height + 76,
      title: `${subject}, ${row}: where the masked ${own[0].masked.unit}s are`,
      description: bars
        .map(({ layer, shares }) => `${layer}: ${mean(shares).toFixed(2)} %`)
        .join("; "),
    },
    ...marks,
    ...drawn,
    text(
      16,
      place.top + place.height + 62,
      `Bars: mean of ${own.length} runs; lines: the least to the most.`,
      { fill: SOFT },
    ),
  );
}
