// What the study's scripts share: options, resumable result files, and the record of one run of unlearning.
import { createHash } from "node:crypto";
import { readFile, rename, writeFile } from "node:fs/promises";
import { loadavg } from "node:os";
import { parseArgs } from "node:util";
import { FishermaskError, splitForget, unlearn } from "fishermask";

const SCHEMA_VERSION = 1;

/** A mistake in the command line: a plain message, exit code 2. */
export class UsageError extends Error {}

function expected(what, name, received) {
  return new UsageError(`Expected ${what} for ${name} but received ${received}`);
}

const USAGE_CODES = ["ERR_FM_ARGUMENT", "ERR_FM_CONFIG"];
const FILE_CODES = ["ERR_FM_BAD_FILE", "ERR_FM_IO", "ERR_FM_MISMATCH", "ERR_FM_NON_FINITE"];

/** Exit codes are those of the command line: 2 usage, 3 bad input file, 1 anything else. */
function exitCodeOf(error) {
  if (error instanceof UsageError) return 2;
  if (!(error instanceof FishermaskError)) return 1;
  if (USAGE_CODES.includes(error.code)) return 2;
  return FILE_CODES.includes(error.code) ? 3 : 1;
}

/** Runs a script's `main`; an error that the user can mend leaves as its message alone. */
export async function runScript(main) {
  try {
    await main();
  } catch (error) {
    const code = exitCodeOf(error);
    console.error(code === 1 ? error : `error: ${error.message}`);
    process.exitCode = code;
  }
}

/** `parseArgs`, its complaints as {@link UsageError}s. */
export function parseOptions(options, allowPositionals = false) {
  try {
    return parseArgs({ options, allowPositionals });
  } catch (error) {
    throw new UsageError(error.message);
  }
}

export function required(values, name) {
  const value = values[name];
  if (value === undefined || value === "")
    throw new UsageError(`Expected --${name} but received none`);
  return value;
}

/** One of the known names. */
export function choice(name, text, known) {
  if (!known.includes(text)) throw expected(`one of ${known.join(", ")}`, name, text);
  return text;
}

/** `a,b,c`, each at most once. */
export function list(name, text) {
  const items = text.split(",").map((item) => item.trim());
  if (items.some((item) => item === "") || new Set(items).size < items.length) {
    throw expected("different items, comma between them,", name, `"${text}"`);
  }
  return items;
}

export function whole(name, text, least = 0) {
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (!(Number.isSafeInteger(value) && value >= least))
    throw expected(`a whole number from ${least}`, name, text);
  return value;
}

export function wholeList(name, text, least = 0) {
  return list(name, text).map((item) => whole(name, item, least));
}

/** Class indices of names or numbers. */
export function classList(name, text, classes) {
  return list(name, text).map((item) => {
    const index = /^\d+$/.test(item) ? Number(item) : classes.indexOf(item);
    if (classes[index] === undefined)
      throw expected(`class names or numbers below ${classes.length}`, name, item);
    return index;
  });
}

/** Where the real files lie that the repository does not hold. */
export function dataFolder() {
  return process.env.FISHERMASK_DATA ?? "../shared/data";
}

export const percent = (fraction, digits = 1) =>
  fraction === null || fraction === undefined ? "–" : `${(100 * fraction).toFixed(digits)} %`;

/** A whole number from 0 to below `bound` that depends on purpose, seed and index alone; `bound` is small. */
export function seededNumber(purpose, seed, index, bound) {
  return createHash("sha256").update(`${purpose}:${seed}:${index}`).digest().readUInt32LE() % bound;
}

/** 0 … size − 1 in an order that depends on purpose and seed alone. */
export function seededOrder(size, purpose, seed) {
  const keys = Array.from({ length: size }, (_, index) =>
    createHash("sha256").update(`${purpose}:${seed}:${index}`).digest("hex"),
  );
  return Array.from(keys.keys()).sort((a, b) => (keys[a] < keys[b] ? -1 : 1));
}

/** JSON with sorted keys: equal configurations have equal texts. */
function canonical(value) {
  return JSON.stringify(value, (_, item) =>
    item !== null && typeof item === "object" && !Array.isArray(item)
      ? Object.fromEntries(Object.entries(item).sort(([a], [b]) => (a < b ? -1 : 1)))
      : item,
  );
}

// Which cell of the table an entry fills; what must agree for it to be still good is in `inputsOf`.
const cellOf = (entry) => canonical([entry.subject, entry.row, entry.forget, entry.seed]);
const inputsOf = (entry) =>
  canonical([entry.config, entry.model, entry.data, entry.recipe ?? null]);

async function readResults(path) {
  let text;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if (error.code === "ENOENT") return [];
    throw new FishermaskError("ERR_FM_IO", `cannot read ${path}: ${error.message}`);
  }
  let parsed;
  try {
    parsed = JSON.parse(text);
  } catch (error) {
    throw new FishermaskError(
      "ERR_FM_BAD_FILE",
      `Expected JSON in ${path} but received: ${error.message}`,
    );
  }
  if (parsed?.schemaVersion !== SCHEMA_VERSION || !Array.isArray(parsed.results)) {
    throw new FishermaskError(
      "ERR_FM_BAD_FILE",
      `Expected schemaVersion ${SCHEMA_VERSION} and results in ${path} but received ${parsed?.schemaVersion}`,
    );
  }
  return parsed.results;
}

/** The results of one file, which must be there. */
export async function loadResults(path) {
  const results = await readResults(path);
  if (results.length === 0) throw expected("a file with results", "the file to read", path);
  return results;
}

/** A line an entry, so that a new one is one line of a diff. Readers see the old file or the whole new one. */
async function writeResults(path, results) {
  const lines = results.map((entry) => JSON.stringify(entry)).join(",\n");
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    await writeFile(temporary, `{"schemaVersion":${SCHEMA_VERSION},"results":[\n${lines}\n]}\n`, {
      flush: true,
    });
    await rename(temporary, path);
  } catch (error) {
    throw new FishermaskError("ERR_FM_IO", `cannot write ${path}: ${error.message}`);
  }
}

/** Results on disk: what is there is not computed again, what is new is written at once. */
export class ResultFile {
  #path;
  #force;

  constructor(path, force) {
    this.#path = path;
    this.#force = force;
  }

  /** Fails before hours of work where the file could not be written or does not hold results. */
  async check() {
    await writeResults(this.#path, await readResults(this.#path));
  }

  /** Whether an entry of the same cell, configuration, network and data is there. */
  async has(wanted) {
    if (this.#force) return false;
    const same = (await readResults(this.#path)).filter(
      (entry) => cellOf(entry) === cellOf(wanted),
    );
    const good = same.some((entry) => inputsOf(entry) === inputsOf(wanted));
    if (same.length > 0 && !good) {
      console.error(
        `${labelOf(wanted)}: recorded under another configuration, network or data set; computed anew`,
      );
    }
    return good;
  }

  /** Takes the place of an older entry of the same cell. The file is read again: another process may have added to it. */
  async add(entry) {
    const others = (await readResults(this.#path)).filter(
      (other) => cellOf(other) !== cellOf(entry),
    );
    await writeResults(this.#path, [...others, entry]);
  }
}

export function labelOf({ subject, row, forget, seed }) {
  return `${subject}, ${row}, ${forget}, seed ${seed}`;
}

const MEASURING = /^(Before,|After,|Masked,|Linear probe)/;

function unlearningSeconds(stages) {
  return stages
    .filter(({ name }) => !MEASURING.test(name))
    .reduce((sum, { seconds }) => sum + seconds, 0);
}

const shareOf = ({ correct, total }) => (total === 0 ? null : correct / total);

/** A snapshot without the counts; accuracies are fractions, null where there is no such sample. */
function brief(snapshot) {
  return {
    forgetTest: snapshot.forget.test,
    remainTest: snapshot.remain.test,
    forgetTrain: snapshot.forget.train,
    remainTrain: snapshot.remain.train,
    forgetLoss: snapshot.loss.forget,
    remainLoss: snapshot.loss.remain,
    perClassTest: snapshot.perClass.test.map(shareOf),
    probe: snapshot.probe,
  };
}

export function worstRemaining(before, after, classes, forgotten) {
  const changes = classes
    .map((name, i) => ({ name, index: i, change: after.perClassTest[i] - before.perClassTest[i] }))
    .filter(({ index, change }) => !forgotten.includes(index) && Number.isFinite(change));
  return changes.toSorted((a, b) => a.change - b.change)[0] ?? null;
}

/** Null where the configuration has no target. */
export function targetReached({ config, rounds, warnings }) {
  const { accuracy, loss } = config.target;
  if (config.selection.kind === "fixed" || (accuracy === undefined && loss === undefined))
    return null;
  const met = ({ forgetAccuracy, forgetLoss, rejected }) =>
    rejected !== true &&
    (accuracy === undefined || forgetAccuracy <= accuracy) &&
    (loss === undefined || forgetLoss >= loss);
  return rounds.some(met) && !warnings.some((text) => /target was not reached/i.test(text));
}

function recordOf(metrics, wanted, totalSeconds) {
  const before = brief(metrics.before);
  const after = brief(metrics.after);
  const { classes, forgetClasses } = metrics.data;
  return {
    ...wanted,
    classes,
    forgetClasses,
    counts: metrics.data.counts,
    before,
    after,
    worstRemaining: worstRemaining(before, after, classes, forgetClasses),
    masked: metrics.masked,
    reached: targetReached(metrics),
    warnings: metrics.warnings,
    rounds: metrics.rounds,
    watch: metrics.watch ?? null,
    fineTuning: metrics.fineTuning,
    stages: metrics.stages,
    seconds: { unlearning: unlearningSeconds(metrics.stages), total: totalSeconds },
    // Times mean little on a busy machine: what else ran is part of the record.
    machine: { threads: metrics.device.threads, loadAverage: loadavg()[0] },
    fishermask: metrics.fishermask,
    createdAt: metrics.createdAt,
  };
}

function summaryOf({ before, after, masked, reached, seconds }) {
  const moved = (key) => `${percent(before[key])} → ${percent(after[key])}`;
  const forget =
    before.forgetTest === null
      ? `forget (train) ${moved("forgetTrain")}`
      : `forget ${moved("forgetTest")}`;
  const target = reached === false ? ", target not reached" : "";
  return (
    `${forget}, remain ${moved("remainTest")}, probe ${percent(before.probe?.forget)} → ${percent(after.probe?.forget)}, ` +
    `${percent(masked.ratio, 2)} masked, ${seconds.unlearning.toFixed(1)} s${target}`
  );
}

/** A run of `unlearn()`, which measures training and test set before and after. */
async function measuredWhole(request, wanted) {
  const started = performance.now();
  const result = await unlearn({ ...request, config: wanted.config, preset: wanted.preset });
  const totalSeconds = (performance.now() - started) / 1000;
  return { result, record: recordOf(result.metrics, wanted, totalSeconds) };
}

/**
 * One cell: unlearns and adds the record to the file, unless it is there.
 *
 * `wanted` names the cell and its inputs: {subject, row, preset, forget, seed, config, model, data, recipe?}. `extra` may
 * add to the record from the result, e.g. what a retrained network does.
 */
export async function runCell(file, wanted, request, { extra, run = measuredWhole } = {}) {
  const label = labelOf(wanted);
  if (await file.has(wanted)) {
    console.error(`${label}: recorded already`);
    return;
  }
  const reporter = {
    stage: () => {},
    progress: () => {},
    message: (text) => console.error(`  ${text}`),
  };
  const { record, result } = await run({ ...request, reporter }, wanted);
  await file.add({ ...record, ...((await extra?.(result)) ?? {}) });
  console.error(`${label}: ${summaryOf(record)}`);
}

/** The split and the forgotten class of `class:N`. */
export async function classSplit(index, train) {
  return { split: await splitForget(`class:${index}`, train), forgetClasses: [index] };
}
