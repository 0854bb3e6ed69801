import { badFile } from "../../io/file-error.js";
import { readTextFile } from "../../io/read.js";
import { parseStrictJson, type StrictJson, StrictJsonError } from "../../io/strict-json.js";
import { defineLoader } from "../loader.js";
import { readTokenizer } from "../text/read-tokenizer.js";
import { sequencesOf, type TextRow } from "../text/sequences.js";

// Texts are kept in memory; the limit keeps a mistaken path from filling it.
const kMaxBytes = 1024 * 1024 * 1024;
const kMaxDepth = 16;
/** What a row's prompt and answer may be called; the first pair that a row has counts. */
const kPairs = [
  ["prompt", "answer"],
  ["question", "answer"],
  ["prompt", "completion"],
  ["instruction", "output"],
] as const;

type Row = ReadonlyMap<string, StrictJson>;

function parseLine(line: string, path: string, where: string): Row {
  let value: StrictJson;
  try {
    value = parseStrictJson(line, kMaxDepth);
  } catch (cause) {
    if (!(cause instanceof StrictJsonError)) throw cause;
    throw badFile(path, where, "a JSON object", cause.message, cause);
  }
  if (value instanceof Map) return value as Row;
  throw badFile(path, where, "a JSON object", Array.isArray(value) ? "a list" : typeof value);
}

function rowOf(row: Row, path: string, where: string): TextRow {
  const textAt = (key: string): string => {
    const value = row.get(key);
    if (typeof value === "string") return value;
    throw badFile(path, where, `a string for "${key}"`, JSON.stringify(value) ?? "none");
  };
  for (const [prompt, answer] of kPairs) {
    if (row.has(prompt) && row.has(answer)) return { prompt: textAt(prompt), text: textAt(answer) };
  }
  if (row.has("text")) return { prompt: null, text: textAt("text") };
  const forms = [...kPairs.map((pair) => pair.join(" and ")), "text"].join("; ");
  throw badFile(path, where, `the keys ${forms}`, [...row.keys()].join(", ") || "none");
}

/**
 * JSON lines: `{"prompt", "answer"}` (or question and answer, prompt and completion, instruction and output), where the answer
 * alone counts in the loss, or `{"text"}`, where all of it does. Blank lines are skipped; other keys are ignored.
 */
export const loader = defineLoader({
  name: "jsonl",
  summary: "JSON lines of prompt and answer, or of text",
  splits: ["train"],
  options: {
    path: "the file",
    split: "train: a file is one split",
    limit: "the first rows only, in file order",
    tokenizer: "tokenizer.json, its folder, or llama2.c's tokenizer.bin",
    length: "tokens a sequence at most; that of the longest row where it is not given",
  },
  load: async (options) => {
    const { path, limit, length } = options;
    const tokenizer = await readTokenizer(options);
    const lines = (await readTextFile(path, kMaxBytes)).split("\n");
    const rows: TextRow[] = [];
    for (const [i, line] of lines.entries()) {
      if (rows.length === limit) break;
      if (line.trim() === "") continue;
      const where = `line ${i + 1}`;
      rows.push(rowOf(parseLine(line, path, where), path, where));
    }
    if (rows.length === 0) throw badFile(path, "the rows", "at least one", "none");
    return sequencesOf(rows, { name: "jsonl", tokenizer, length });
  },
});
