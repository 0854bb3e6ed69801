import { argumentError, checkInteger } from "./check.js";
import type { Dataset } from "./dataset.js";

// Far beyond any context; a product of sizes stays a safe integer.
const kMostTokens = 2 ** 24;
// Pixels a side: far beyond any network's input, and three channels of it still fit an array.
const kMostSide = 2 ** 14;

export type DatasetSplit = "train" | "test";

export interface LoadOptions {
  /** The folder (or file) that the data lie in. */
  readonly path: string;
  readonly split: DatasetSplit;
  /** Only the first so many samples, in file order; all where there are fewer. */
  readonly limit?: number | undefined;
  /** Text alone: the tokenizer's file or folder. */
  readonly tokenizer?: string | undefined;
  /** Text alone: tokens a sequence at most. */
  readonly length?: number | undefined;
  /** Images of many sizes alone: the height and width that each is brought to. */
  readonly imageSize?: readonly [height: number, width: number] | undefined;
}

/** The splits that there are; a function of the path where they depend on what lies there. */
export type Splits = readonly DatasetSplit[] | ((path: string) => readonly DatasetSplit[]);

/** How one kind of data set is read. A loader is one file in `loaders/`, which exports it as `loader`. */
export interface DatasetLoader {
  /** What stands before the colon in `--data name:PATH`; the file's stem. */
  readonly name: string;
  /** One sentence for the help text. */
  readonly summary: string;
  /** The splits that there are; both where it is not given. */
  readonly splits?: Splits;
  /** The options that `load` heeds, each with one sentence. */
  readonly options: Readonly<Partial<Record<keyof LoadOptions, string>>>;
  /**
   * @throws {@link FishermaskError} `ERR_FM_ARGUMENT` for a bad option, `ERR_FM_IO` naming the path that is missing,
   * `ERR_FM_BAD_FILE` naming the file, what was expected and what was found
   */
  readonly load: (options: LoadOptions) => Promise<Dataset>;
}

/** The splits of the data at a path. Looks at the file system where the loader's splits depend on it; nothing is read. */
export function splitsAt(
  { splits = ["train", "test"] }: Pick<DatasetLoader, "splits">,
  path: string,
): readonly DatasetSplit[] {
  return typeof splits === "function" ? splits(path) : splits;
}

function checkImageSize(definition: DatasetLoader, size: readonly number[]): void {
  if (definition.options.imageSize === undefined) {
    const expected = `data whose images may be resized (${definition.name} data may not)`;
    throw argumentError(expected, "imageSize", size.join(","));
  }
  if (size.length !== 2) throw argumentError("height and width", "imageSize", size.join(","));
  for (const each of size) checkInteger("each of imageSize", each, 1, kMostSide);
}

/** A loader whose options are checked before its own `load` sees them. */
export function defineLoader(definition: DatasetLoader): DatasetLoader {
  return {
    ...definition,
    load: async (options) => {
      const split: string = options.split;
      if (split !== "train" && split !== "test") {
        throw argumentError("train or test", "split", split);
      }
      const splits = splitsAt(definition, options.path);
      if (!splits.includes(options.split)) {
        const only = `the split ${splits.join(", ")} of ${definition.name} data`;
        throw argumentError(only, "split", split);
      }
      if (options.limit !== undefined) {
        checkInteger("limit", options.limit, 1, Number.MAX_SAFE_INTEGER);
      }
      if (options.length !== undefined) checkInteger("length", options.length, 1, kMostTokens);
      if (options.imageSize !== undefined) checkImageSize(definition, options.imageSize);
      return definition.load(options);
    },
  };
}
