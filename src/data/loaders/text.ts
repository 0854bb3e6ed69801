import { badFile } from "../../io/file-error.js";
import { readTextFile } from "../../io/read.js";
import { firstSamples } from "../dataset.js";
import { defineLoader } from "../loader.js";
import { readTokenizer } from "../text/read-tokenizer.js";
import { sequencesOf, windowsOf } from "../text/sequences.js";

const kMaxBytes = 256 * 1024 * 1024;
const kSeparator = "<|endoftext|>";
const kDefaultWindow = 128;

/**
 * Plain text. Where `<|endoftext|>` stands in it, each piece between two of them is a sample; else the text is cut into windows
 * of `length` tokens.
 */
export const loader = defineLoader({
  name: "text",
  summary: `plain text: pieces between ${kSeparator}, or else windows of one length`,
  splits: ["train"],
  options: {
    path: "the file",
    split: "train: a file is one split",
    limit: "the first samples only, in file order",
    tokenizer: "tokenizer.json, its folder, or llama2.c's tokenizer.bin",
    length: `tokens a sequence at most; of windows ${kDefaultWindow} where it is not given`,
  },
  load: async (options) => {
    const { path, limit, length } = options;
    const tokenizer = await readTokenizer(options);
    const text = await readTextFile(path, kMaxBytes);
    if (!text.includes(kSeparator)) {
      const windows = windowsOf(text, {
        name: "text",
        tokenizer,
        length: length ?? kDefaultWindow,
      });
      return limit === undefined ? windows : firstSamples(windows, limit);
    }
    const pieces = text
      .split(kSeparator)
      .map((piece) => piece.trim())
      .filter((piece) => piece !== "")
      .slice(0, limit);
    if (pieces.length === 0) throw badFile(path, "the pieces", "at least one", "none");
    const rows = pieces.map((piece) => ({ prompt: null, text: piece }));
    return sequencesOf(rows, { name: "text", tokenizer, length });
  },
});
