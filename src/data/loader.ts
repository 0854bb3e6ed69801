import { argumentError, checkInteger } from "./check.js";
import type { ImageDataset } from "./dataset.js";

export type DatasetSplit = "train" | "test";

export interface LoadOptions {
  /** The folder (or file) that the data lie in. */
  readonly path: string;
  readonly split: DatasetSplit;
  /** Only the first so many samples, in file order; all where there are fewer. */
  readonly limit?: number | undefined;
}

/** How one kind of data set is read. A loader is one file in `loaders/`, which exports it as `loader`. */
export interface DatasetLoader {
  /** What stands before the colon in `--data name:PATH`; the file's stem. */
  readonly name: string;
  /** One sentence for the help text. */
  readonly summary: string;
  /** The options that `load` heeds, each with one sentence. */
  readonly options: Readonly<Partial<Record<keyof LoadOptions, string>>>;
  /**
   * @throws {@link FishermaskError} `ERR_FM_ARGUMENT` for a bad option, `ERR_FM_IO` naming the path that is missing,
   * `ERR_FM_BAD_FILE` naming the file, what was expected and what was found
   */
  readonly load: (options: LoadOptions) => Promise<ImageDataset>;
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
      if (options.limit !== undefined) {
        checkInteger("limit", options.limit, 1, Number.MAX_SAFE_INTEGER);
      }
      return definition.load(options);
    },
  };
}
