import { FishermaskError } from "../native/errors.js";
import { writeFileAtomic } from "./atomic-write.js";
import {
  encodeHeader,
  isSafetensorsDtype,
  type SafetensorsDtype,
  type TensorInfo,
  tensorBytes,
} from "./safetensors-header.js";

/** A tensor to write. A function is called when its turn comes, so that not all data need be in memory at once. */
export interface TensorSource {
  readonly name: string;
  readonly dtype: SafetensorsDtype;
  readonly shape: readonly number[];
  /** Row-major, little-endian. */
  readonly data: Uint8Array | (() => Promise<Uint8Array>);
}

/** The strings of `__metadata__`. */
export type SafetensorsMetadata = ReadonlyMap<string, string> | Readonly<Record<string, string>>;

const kLoneSurrogate = /\p{Surrogate}/u;

function argumentError(expected: string, name: string, received: string): FishermaskError {
  return new FishermaskError(
    "ERR_FM_ARGUMENT",
    `Expected ${expected} for ${name} but received ${received}`,
  );
}

/** Metadata as an ordered map, checked to be strings that UTF-8 can hold. */
export function metadataMap(metadata: SafetensorsMetadata): ReadonlyMap<string, string> {
  const entries: Iterable<[string, unknown]> =
    metadata instanceof Map ? metadata.entries() : Object.entries(metadata);
  const checked = new Map<string, string>();
  for (const [key, text] of entries) {
    if (typeof text !== "string" || kLoneSurrogate.test(key) || kLoneSurrogate.test(text)) {
      throw argumentError("a string of whole characters", `metadata "${key}"`, `${text}`);
    }
    checked.set(key, text);
  }
  return checked;
}

function checkName(name: string, taken: ReadonlySet<string>): void {
  const received = `"${name}"`;
  if (name === "__metadata__" || kLoneSurrogate.test(name)) {
    throw argumentError("a name of whole characters other than __metadata__", "a tensor", received);
  }
  if (taken.has(name)) {
    throw argumentError("unique names", "the tensors", `${received} twice`);
  }
}

function layOut(sources: readonly TensorSource[]): TensorInfo[] {
  const taken = new Set<string>();
  const tensors: TensorInfo[] = [];
  let begin = 0;
  for (const { name, dtype, shape } of sources) {
    checkName(name, taken);
    taken.add(name);
    if (!isSafetensorsDtype(dtype)) {
      throw argumentError("a safetensors dtype", `tensor "${name}"`, `${dtype}`);
    }
    const sizes = shape.every((size) => Number.isSafeInteger(size) && size >= 0);
    const bytes = sizes ? tensorBytes(dtype, shape) : undefined;
    const end = begin + (bytes ?? Number.NaN);
    if (!Number.isSafeInteger(end)) {
      const expected = "sizes that make a whole, representable number of bytes";
      throw argumentError(expected, `the shape of tensor "${name}"`, `[${shape.join(",")}]`);
    }
    tensors.push({ name, dtype, shape, begin, end });
    begin = end;
  }
  return tensors;
}

async function* content(
  header: Uint8Array,
  tensors: readonly TensorInfo[],
  sources: readonly TensorSource[],
): AsyncGenerator<Uint8Array> {
  yield header;
  for (const [i, { name, begin, end }] of tensors.entries()) {
    const source = sources[i]?.data;
    const data = typeof source === "function" ? await source() : source;
    if (data?.byteLength !== end - begin) {
      const expected = `${end - begin} bytes`;
      throw argumentError(expected, `the data of tensor "${name}"`, `${data?.byteLength} bytes`);
    }
    yield data;
  }
}

/**
 * Writes a safetensors file, one tensor in memory at a time, replacing `path` only once it is complete.
 *
 * Unlike the reference library, tensors stay in the given order instead of being sorted by element size, so an odd
 * number of bytes in one tensor leaves the next ones unaligned in the file. Readers must not rely on alignment.
 *
 * @param tensors in the order of the file; names unique
 * @param metadata strings for `__metadata__`, in their order; left out when empty
 * @throws {@link FishermaskError} `ERR_FM_ARGUMENT` naming the tensor, `ERR_FM_IO` naming the path
 */
export async function writeSafetensors(
  path: string,
  tensors: Iterable<TensorSource>,
  metadata: SafetensorsMetadata = {},
): Promise<void> {
  const sources = [...tensors];
  const infos = layOut(sources);
  const header = encodeHeader(infos, metadataMap(metadata));
  await writeFileAtomic(path, content(header, infos, sources));
}
