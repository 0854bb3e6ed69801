import { argumentError, checkInteger } from "./check.js";
import type { Dataset } from "./dataset.js";

// Far beyond any context; a product of sizes stays a safe integer.
const kMostTokens = 2 ** 24;

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
}

/** How one kind of data set is read. A loader is one file in `loaders/`, which exports it as `loader`. */
export interface DatasetLoader {
  /** What stands before the colon in `--data name:PATH`; the file's stem. */
  readonly name: string;
  /** One sentence for the help text. */
  readonly summary: string;
  /** The splits that there are; both where it is not given. */
  readonly splits?: readonly DatasetSplit[];
  /** The options that `load` heeds, each with one sentence. */
  readonly options: Readonly<Partial<Record<keyof LoadOptions, string>>>;
  /**
   * @throws {@link FishermaskError} `ERR_FM_ARGUMENT` for a bad option, `ERR_FM_IO` naming the path that is missing,
   * `ERR_FM_BAD_FILE` naming the file, what was expected and what was found
   */
  readonly load: (options: LoadOptions) => Promise<Dataset>;
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
      if (definition.splits?.includes(options.split) === false) {
        const only = `the split ${definition.splits.join(", ")} of ${definition.name} data`;
        throw argumentError(only, "split", split);
      }
      if (options.limit !== undefined) {
        checkInteger("limit", options.limit, 1, Number.MAX_SAFE_INTEGER);
      }
      if (options.length !== undefined) checkInteger("length", options.length, 1, kMostTokens);
      return definition.load(options);
    },
  };
}
