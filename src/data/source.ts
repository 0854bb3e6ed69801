import { argumentError } from "./check.js";
import type { Dataset } from "./dataset.js";
import { type DatasetLoader, type DatasetSplit, type LoadOptions, splitsAt } from "./loader.js";
import { type LoaderName, loaders } from "./loaders.gen.js";

/** Where data come from: `--data NAME:PATH`, taken apart. */
export interface DataSource {
  readonly name: LoaderName;
  readonly loader: DatasetLoader;
  readonly path: string;
}

function isLoaderName(name: string): name is LoaderName {
  return Object.hasOwn(loaders, name);
}

/**
 * Takes `NAME:PATH` apart at its first colon.
 *
 * @throws {@link FishermaskError} `ERR_FM_ARGUMENT` listing the known names
 */
export function parseDataSource(text: string): DataSource {
  const colon = text.indexOf(":");
  const name = text.slice(0, Math.max(0, colon));
  const path = text.slice(colon + 1);
  if (!isLoaderName(name) || path === "") {
    const known = Object.keys(loaders).map((loader) => `${loader}:PATH`);
    throw argumentError(`one of ${known.join(", ")}`, "data", text);
  }
  return { name, loader: loaders[name], path };
}

/**
 * Reads the data that `NAME:PATH` names.
 *
 * @throws {@link FishermaskError} as {@link parseDataSource} and {@link DatasetLoader.load}
 */
export async function loadDataset(
  text: string,
  options: Omit<LoadOptions, "path">,
): Promise<Dataset> {
  const { loader, path } = parseDataSource(text);
  return loader.load({ ...options, path });
}

/** Whether the data that `NAME:PATH` names have this split. @throws as {@link parseDataSource} */
export function hasSplit(text: string, split: DatasetSplit): boolean {
  const { loader, path } = parseDataSource(text);
  return splitsAt(loader, path).includes(split);
}
