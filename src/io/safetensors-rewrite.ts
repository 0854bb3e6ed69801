import { FishermaskError } from "../native/errors.js";
import { writeFileAtomic } from "./atomic-write.js";
import { encodeFloatsOver, FLOAT_BYTES, firstNonFinite, nonFiniteError } from "./float-format.js";
import type { SafetensorsFile } from "./safetensors-file.js";
import { elementCount, encodeHeader } from "./safetensors-header.js";
import { metadataMap, type SafetensorsMetadata } from "./safetensors-write.js";

const kChunkBytes = 4 * 1024 * 1024;

function checkChanged(source: SafetensorsFile, changed: ReadonlyMap<string, Float32Array>): void {
  for (const [name, values] of changed) {
    const { shape } = source.floatInfo(name);
    const count = elementCount(shape);
    if (values.length !== count) {
      throw new FishermaskError(
        "ERR_FM_SHAPE",
        `Expected ${count} elements for tensor "${name}" of ${source.path} but received ${values.length}`,
        { details: { path: source.path, tensor: name } },
      );
    }
    const index = firstNonFinite(values);
    if (index >= 0) {
      throw nonFiniteError(source.path, name, index, "a finite number", values[index]);
    }
  }
}

async function* copy(
  source: SafetensorsFile,
  begin: number,
  end: number,
): AsyncGenerator<Uint8Array> {
  for (let position = begin; position < end; position += kChunkBytes) {
    const bytes = new Uint8Array(Math.min(kChunkBytes, end - position));
    await source.readAt(position, bytes);
    yield bytes;
  }
}

async function* convert(
  source: SafetensorsFile,
  name: string,
  values: Float32Array,
): AsyncGenerator<Uint8Array> {
  const { dtype, begin } = source.floatInfo(name);
  const width = FLOAT_BYTES[dtype];
  const perChunk = kChunkBytes / width;
  for (let start = 0; start < values.length; start += perChunk) {
    const part = values.subarray(start, start + perChunk);
    const bytes = new Uint8Array(part.length * width);
    await source.readAt(source.dataStart + begin + start * width, bytes);
    const overflow = encodeFloatsOver(dtype, part, bytes);
    if (overflow >= 0) {
      const expected = `a value in ${dtype}'s range`;
      throw nonFiniteError(source.path, name, start + overflow, expected, part[overflow]);
    }
    yield bytes;
  }
}

async function* content(
  source: SafetensorsFile,
  changed: ReadonlyMap<string, Float32Array>,
  header: Uint8Array | undefined,
): AsyncGenerator<Uint8Array> {
  if (header === undefined) {
    yield* copy(source, 0, source.dataStart);
  } else {
    yield header;
  }
  for (const { name, begin, end } of source.tensors.values()) {
    const values = changed.get(name);
    if (values === undefined) {
      yield* copy(source, source.dataStart + begin, source.dataStart + end);
    } else {
      yield* convert(source, name, values);
    }
  }
}

function headerWith(source: SafetensorsFile, extraMetadata: SafetensorsMetadata): Uint8Array {
  const metadata = new Map([...source.metadata, ...metadataMap(extraMetadata)]);
  return encodeHeader(source.tensors.values(), metadata);
}

/**
 * Writes a file back with some tensors' values changed; everything else stays byte for byte: order, names, shapes,
 * types, the other tensors and, unless `extraMetadata` is given, the header. Values are rounded to the tensor's own type,
 * to nearest even; an element whose value is the stored one (as f32) keeps its bits. Copies in pieces of 4 MiB.
 *
 * @param source stays open, and goes on reading the old file even where that is replaced
 * @param destination replaced only once the new file is complete; may be the source's own path
 * @param changed new elements by tensor name, row-major, as many as the tensor has
 * @param extraMetadata strings to add to `__metadata__`; a key that is there already takes the new text
 * @throws {@link FishermaskError} `ERR_FM_ARGUMENT` for an unknown tensor, `ERR_FM_DTYPE` for one that is not of a float
 * type, `ERR_FM_SHAPE` for a wrong number of elements, `ERR_FM_NON_FINITE` for NaN, infinity or a value beyond the
 * type's range, `ERR_FM_BAD_FILE` and `ERR_FM_IO`
 */
export async function rewriteSafetensors(
  source: SafetensorsFile,
  destination: string,
  changed: ReadonlyMap<string, Float32Array>,
  extraMetadata?: SafetensorsMetadata,
): Promise<void> {
  checkChanged(source, changed);
  const header = extraMetadata === undefined ? undefined : headerWith(source, extraMetadata);
  await writeFileAtomic(destination, content(source, changed, header));
}
