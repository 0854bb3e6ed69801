import { badFile } from "../io/file-error.js";
import { readTextFile } from "../io/read.js";
import { findClass } from "./class-names.js";
import type { Dataset } from "./dataset.js";

const kMaxBytes = 256 * 1024 * 1024;
const kDigits = /^[0-9]{1,15}$/;

interface Line {
  /** From 1. */
  readonly number: number;
  /** Without comment and outer white space; not empty. */
  readonly text: string;
}

async function readLines(path: string): Promise<Line[]> {
  const text = await readTextFile(path, kMaxBytes);
  return text
    .split("\n")
    .map((line, i) => ({ number: i + 1, text: line.replace(/#.*/, "").trim() }))
    .filter((line) => line.text !== "");
}

/** Collects indices and refuses those out of range or seen before. */
class IndexCollector {
  private readonly lineOf = new Map<number, number>();

  constructor(
    private readonly path: string,
    private readonly size: number,
  ) {}

  add(line: Line, text: string): number {
    const index = kDigits.test(text) ? Number(text) : -1;
    if (index < 0 || index >= this.size) {
      throw badFile(this.path, `line ${line.number}`, `an index from 0 to ${this.size - 1}`, text);
    }
    const first = this.lineOf.get(index);
    if (first !== undefined) {
      const received = `${index}, which line ${first} has already`;
      throw badFile(this.path, `line ${line.number}`, "each index once", received);
    }
    this.lineOf.set(index, line.number);
    return index;
  }
}

/**
 * Reads indices from a text file, one a line; `#` starts a comment, empty lines are skipped.
 *
 * @param size number of samples of the data set
 * @returns the indices, ascending
 * @throws {@link FishermaskError} `ERR_FM_IO`, or `ERR_FM_BAD_FILE` naming file and line
 */
export async function readIds(path: string, size: number): Promise<Int32Array> {
  const collector = new IndexCollector(path, size);
  const indices = (await readLines(path)).map((line) => collector.add(line, line.text));
  return Int32Array.from(indices).sort();
}

/** Samples whose label in the data is wrong. */
export interface Mislabelled {
  /** (M,), ascending. */
  readonly indices: Int32Array;
  /** (M,): the label that each should have. */
  readonly trueLabels: Int32Array;
}

function splitRow(path: string, line: Line): [index: string, trueLabel: string] {
  const [index, label, ...rest] = line.text.split(",").map((cell) => cell.trim());
  if (index === undefined || label === undefined || rest.length > 0) {
    throw badFile(path, `line ${line.number}`, "index,trueLabel", line.text);
  }
  return [index, label];
}

function classOf(path: string, line: Line, text: string, classes: readonly string[]): number {
  try {
    return findClass(classes, text, "a true label");
  } catch (cause) {
    throw badFile(path, `line ${line.number}`, "one class's name or index", text, cause);
  }
}

/**
 * Reads CSV lines `index,trueLabel`; a label is a class's index or name. A first line `index,trueLabel` is a heading.
 *
 * @throws {@link FishermaskError} `ERR_FM_IO`, or `ERR_FM_BAD_FILE` naming file and line: an index out of range or seen
 * before, an unknown class, or a true label that the data have already
 */
export async function readMislabelled(path: string, dataset: Dataset): Promise<Mislabelled> {
  const collector = new IndexCollector(path, dataset.size);
  const pairs: [index: number, trueLabel: number][] = [];
  const lines = await readLines(path);
  for (const line of lines[0]?.text === "index,trueLabel" ? lines.slice(1) : lines) {
    const [indexText, labelText] = splitRow(path, line);
    const index = collector.add(line, indexText);
    const label = classOf(path, line, labelText, dataset.classes);
    if (label === dataset.labels[index]) {
      const expected = `a label other than the data's (${label})`;
      throw badFile(path, `line ${line.number}`, expected, labelText);
    }
    pairs.push([index, label]);
  }
  pairs.sort(([a], [b]) => a - b);
  return {
    indices: Int32Array.from(pairs, ([index]) => index),
    trueLabels: Int32Array.from(pairs, ([, label]) => label),
  };
}
