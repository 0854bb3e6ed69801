// Tables and pictures of the study from the files that table.mjs and robustness.mjs wrote.
//   node docs/study/default/render.mjs docs/study/default/resnet20.json [MORE.json …] --out docs/study/default
//     [--goal 1,0.5,2] [--per-class default] [--focus default]
// For each network or case NAME: NAME.md, and NAME-scatter.svg, NAME-trade-off.svg and NAME-layers.svg where it forgot classes.
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { FishermaskError } from "fishermask";
import {
  list,
  loadResults,
  parseOptions,
  percent,
  required,
  runScript,
  UsageError,
} from "./lib.mjs";
import { layers, scatter, tradeOff } from "./pictures.mjs";

const USAGE = `usage: node docs/study/default/render.mjs FILE.json… --out FOLDER
  --goal F,M,W      says of each row whether it meets the goals, in percent and points: forgotten at most F for every run,
                    remaining lower by at most M on average and W in the worst run
  --per-class A,B   rows whose runs are listed one by one; default where it is not given
  --focus ROW       the row whose rounds and layers are drawn; default where it is not given`;

/** Least difference that counts: below what a sum of fractions may be off. */
const SLACK = 1e-9;

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
const unique = (values) => [...new Set(values)];

/** Of a sample, hence n − 1; null for a single value. */
function deviation(values) {
  if (values.length < 2) return null;
  const middle = mean(values);
  return Math.sqrt(
    values.reduce((sum, value) => sum + (value - middle) ** 2, 0) / (values.length - 1),
  );
}

const points = (fraction) => `${fraction < 0 ? "−" : "+"}${Math.abs(100 * fraction).toFixed(2)}`;
const figure = (fraction) =>
  fraction === null || fraction === undefined ? "–" : (100 * fraction).toFixed(1);

function spread(values) {
  const known = values.filter((value) => value !== null && value !== undefined);
  if (known.length === 0) return "–";
  const width = deviation(known);
  return width === null ? figure(mean(known)) : `${figure(mean(known))} ± ${figure(width)}`;
}

function markdownTable(head, rows) {
  const written = (cells) => `| ${cells.join(" | ")} |`;
  return [written(head), written(head.map(() => "---")), ...rows.map(written)].join("\n");
}

const remainChange = ({ before, after }) => after.remainTest - before.remainTest;
const forgetName = ({ forget }) => forget.replace(/^class:/, "");
const least = (items, value) => items.reduce((a, b) => (value(b) < value(a) ? b : a));

/** What a row says in the main table: all that its runs came to. */
function summaryRow(row, runs) {
  const forgotten = runs.map(({ after }) => after.forgetTest);
  const worstRun = least(runs, remainChange);
  const worstClass = least(runs, ({ worstRemaining }) => worstRemaining?.change ?? 0);
  const missed = runs.filter(({ reached }) => reached === false).length;
  const single = worstClass.worstRemaining;
  return [
    row,
    String(runs.length),
    `${spread(forgotten)} (${figure(Math.max(...forgotten))})`,
    `${spread(runs.map(({ after }) => after.remainTest))} (${figure(Math.min(...runs.map(({ after }) => after.remainTest)))})`,
    points(mean(runs.map(remainChange))),
    `${points(remainChange(worstRun))} (${forgetName(worstRun)})`,
    single === null
      ? "–"
      : `${points(single.change)} (${single.name}, forgetting ${forgetName(worstClass)})`,
    `${spread(runs.map(({ before }) => before.probe?.forget))} → ${spread(runs.map(({ after }) => after.probe?.forget))}`,
    `${spread(runs.map(({ before }) => before.probe?.remain))} → ${spread(runs.map(({ after }) => after.probe?.remain))}`,
    `${(100 * mean(runs.map(({ masked }) => masked.ratio))).toFixed(2)} %`,
    mean(runs.map(({ seconds }) => seconds.unlearning)).toFixed(1),
    runs[0].reached === null
      ? "none set"
      : missed === 0
        ? "all"
        : `${runs.length - missed} of ${runs.length}`,
  ];
}

const SUMMARY_HEAD = [
  "row",
  "runs",
  "forgotten class, mean ± sd (worst)",
  "remaining, mean ± sd (worst)",
  "change on average",
  "worst run",
  "worst single class",
  "probe, forgotten class",
  "probe, others",
  "masked",
  "seconds",
  "target reached",
];

function originalRow(runs) {
  const before = (read) => spread(runs.map((run) => read(run.before)));
  const cells = Array.from(SUMMARY_HEAD, () => "");
  cells[0] = "before";
  cells[2] = before(({ forgetTest }) => forgetTest);
  cells[3] = before(({ remainTest }) => remainTest);
  return cells;
}

function goalLines(rows, runsOf, { forgotten, average, worst }) {
  const verdict = (met) => (met ? "met" : "**not met**");
  return rows.flatMap((row) => {
    const runs = runsOf(row);
    const mostForgotten = least(runs, ({ after }) => -after.forgetTest);
    const meanChange = mean(runs.map(remainChange));
    const worstRun = least(runs, remainChange);
    const missing = runs.filter(({ after }) => 100 * after.forgetTest > forgotten + SLACK);
    return [
      `- ${row}: forgotten at most ${forgotten} % in every run: ${verdict(missing.length === 0)} ` +
        `(most ${percent(mostForgotten.after.forgetTest)}, ${forgetName(mostForgotten)}; above it ${missing.length} of ${runs.length})`,
      `- ${row}: remaining lower by at most ${average} points on average: ${verdict(-100 * meanChange <= average + SLACK)} ` +
        `(${points(meanChange)})`,
      `- ${row}: remaining lower by at most ${worst} points in the worst run: ` +
        `${verdict(-100 * remainChange(worstRun) <= worst + SLACK)} (${points(remainChange(worstRun))}, ${forgetName(worstRun)})`,
    ];
  });
}

const CLASS_HEAD = [
  "forgotten",
  "seed",
  "forgotten class",
  "remaining",
  "change",
  "worst single class",
  "probe, forgotten class",
  "masked",
  "rounds kept",
  "seconds",
  "target",
];

function classRow(run) {
  const { before, after, worstRemaining, masked, rounds, seconds, reached } = run;
  const kept = rounds.filter(({ round, rejected }) => round > 0 && rejected !== true).length;
  return [
    forgetName(run),
    String(run.seed),
    `${figure(before.forgetTest)} → ${figure(after.forgetTest)}`,
    `${figure(before.remainTest)} → ${figure(after.remainTest)}`,
    points(remainChange(run)),
    worstRemaining === null ? "–" : `${worstRemaining.name} ${points(worstRemaining.change)}`,
    `${figure(before.probe?.forget)} → ${figure(after.probe?.forget)}`,
    `${(100 * masked.ratio).toFixed(2)} %`,
    String(kept),
    seconds.unlearning.toFixed(1),
    reached === null ? "none set" : reached ? "reached" : "**missed**",
  ];
}

const SAMPLE_HEAD = [
  "row, forget set, seed",
  "network",
  "forget set, labels as given",
  "forget set, true labels",
  "loss on it, as given",
  "test",
  "masked",
  "target",
];

/** Forget sets that are no class: the network before, after, and one that never saw the set. */
function sampleRows(run) {
  const { row, forget, seed, samples, masked, reached } = run;
  return ["before", "after", "retrained"].map((network) => {
    const { given, true: right, test } = samples[network];
    const isAfter = network === "after";
    return [
      `${row}, ${forget}, ${seed}`,
      network,
      figure(given.accuracy),
      figure(right.accuracy),
      given.loss.toFixed(2),
      figure(test.accuracy),
      isAfter ? `${(100 * masked.ratio).toFixed(2)} %` : "",
      !isAfter || reached === null ? "" : reached ? "reached" : "**missed**",
    ];
  });
}

function classTables(runs, options) {
  if (runs.length === 0) return [];
  const rows = unique(runs.map(({ row }) => row));
  const runsOf = (row) => runs.filter((run) => run.row === row);
  const listed = options.perClass.filter((row) => rows.includes(row));
  return [
    "Test accuracies in percent, changes in points; a probe is of the test images of those classes.",
    markdownTable(SUMMARY_HEAD, [
      originalRow(runs),
      ...rows.map((row) => summaryRow(row, runsOf(row))),
    ]),
    ...(options.goal === null ? [] : [goalLines(rows, runsOf, options.goal).join("\n")]),
    ...listed.flatMap((row) => [
      `### ${row}, run by run`,
      markdownTable(CLASS_HEAD, runsOf(row).map(classRow)),
    ]),
  ];
}

function sampleTables(runs) {
  if (runs.length === 0) return [];
  return [
    "Accuracies in percent, loss in nats a sample.",
    markdownTable(SAMPLE_HEAD, runs.flatMap(sampleRows)),
  ];
}

function conditions(runs) {
  const { data, model } = runs[0];
  const threads = unique(runs.map(({ machine }) => machine.threads)).join(", ");
  const load = Math.max(...runs.map(({ machine }) => machine.loadAverage));
  return (
    `${model.arch} on ${data.name}: ${data.train} training and ${data.test} test images; ${runs.length} runs, ` +
    `${threads} threads, load average up to ${load.toFixed(1)}; seconds are those of the unlearning alone.`
  );
}

/** Results of other networks, data or rules under one name would make one number of different things. */
function checkUniform(subject, runs) {
  const inputs = unique(
    runs.map(({ model, data }) => JSON.stringify([model, { ...data, trainDigest: "" }])),
  );
  const rules = unique(
    runs.map(({ row, config }) => JSON.stringify([row, { ...config, seed: 0 }])),
  );
  const rows = unique(runs.map(({ row }) => row));
  if (inputs.length === 1 && rules.length === rows.length) return;
  throw new UsageError(
    `Expected one network, one data set and one configuration a row for ${subject} but received several; ` +
      "run its script again, or render the files one by one",
  );
}

async function write(path, content) {
  try {
    await writeFile(path, content);
  } catch (error) {
    throw new FishermaskError("ERR_FM_IO", `cannot write ${path}: ${error.message}`);
  }
  console.log(path);
}

async function renderSubject(subject, runs, options) {
  checkUniform(subject, runs);
  const byClass = runs.filter(({ forgetClasses }) => forgetClasses.length > 0);
  const bySample = runs.filter(({ samples }) => samples !== undefined);
  const parts = [
    `## ${subject}`,
    conditions(runs),
    ...classTables(byClass, options),
    ...sampleTables(bySample),
  ];
  const path = (ending) => join(options.out, `${subject}${ending}`);
  await write(path(".md"), `${parts.join("\n\n")}\n`);
  if (byClass.length === 0) return;
  const focused = byClass.some(({ row }) => row === options.focus);
  if (!focused)
    console.error(
      `${subject}: no run of row ${options.focus}, so neither its rounds nor its layers are drawn`,
    );
  const pictures = {
    "-scatter.svg": scatter(subject, byClass),
    "-trade-off.svg": focused ? tradeOff(subject, options.focus, byClass) : null,
    "-layers.svg": focused ? layers(subject, options.focus, byClass) : null,
  };
  for (const [ending, svg] of Object.entries(pictures))
    if (svg !== null) await write(path(ending), svg);
}

function goalOf(text) {
  if (text === undefined) return null;
  const numbers = text.split(",").map((item) => (item.trim() === "" ? Number.NaN : Number(item)));
  if (numbers.length !== 3 || !numbers.every((value) => value >= 0 && Number.isFinite(value))) {
    throw new UsageError(
      `Expected three numbers from 0, as in 1,0.5,2, for --goal but received ${text}`,
    );
  }
  const [forgotten, average, worst] = numbers;
  return { forgotten, average, worst };
}

/** Rows in the order of the first class, classes in theirs: the files hold them as they were computed. */
function ordered(runs) {
  const rows = unique(runs.map(({ row }) => row));
  const place = (run) => [rows.indexOf(run.row), run.forgetClasses[0] ?? 0, run.seed];
  return runs.toSorted((a, b) => {
    const [left, right] = [place(a), place(b)];
    const at = left.findIndex((value, i) => value !== right[i]);
    return at < 0 ? 0 : left[at] - right[at];
  });
}

async function main() {
  const { values, positionals } = parseOptions(
    {
      out: { type: "string" },
      goal: { type: "string" },
      "per-class": { type: "string", default: "default" },
      focus: { type: "string", default: "default" },
      help: { type: "boolean", default: false },
    },
    true,
  );
  if (values.help) {
    console.log(USAGE);
    return;
  }
  if (positionals.length === 0)
    throw new UsageError("Expected at least one FILE.json but received none");
  const options = {
    out: required(values, "out"),
    goal: goalOf(values.goal),
    perClass: list("--per-class", values["per-class"]),
    focus: values.focus,
  };
  const runs = (await Promise.all(positionals.map(loadResults))).flat();
  await mkdir(options.out, { recursive: true });
  for (const subject of unique(runs.map((run) => run.subject))) {
    await renderSubject(subject, ordered(runs.filter((run) => run.subject === subject)), options);
  }
}

await runScript(main);
