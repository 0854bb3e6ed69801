import { FishermaskError } from "../native/errors.js";
import { badFile } from "./file-error.js";
import {
  decodeFloats,
  FLOAT_BYTES,
  type FloatDtype,
  isFloatDtype,
  nonFiniteError,
} from "./float-format.js";
import { type OpenFile, openRegularFile, readExactly } from "./read.js";
import {
  elementCount,
  HEADER_LENGTH_BYTES,
  MAX_HEADER_BYTES,
  parseHeader,
  type SafetensorsHeader,
  type TensorInfo,
} from "./safetensors-header.js";

// Other types than F32 are converted by way of a buffer of at most this many bytes.
const kChunkBytes = 4 * 1024 * 1024;

async function readHeaderLength(file: OpenFile): Promise<number> {
  if (file.size < HEADER_LENGTH_BYTES) {
    throw badFile(file.path, "the length", "at least 8 bytes", `${file.size} bytes`);
  }
  const field = new Uint8Array(HEADER_LENGTH_BYTES);
  await readExactly(file, 0, field);
  const length = new DataView(field.buffer).getBigUint64(0, true);
  const most = Math.min(MAX_HEADER_BYTES, file.size - HEADER_LENGTH_BYTES);
  if (length > BigInt(most)) {
    throw badFile(
      file.path,
      "the header length",
      `at most ${most} bytes`,
      `${length}; is it a safetensors file, and whole?`,
    );
  }
  return Number(length);
}

async function readHeader(
  file: OpenFile,
): Promise<{ header: SafetensorsHeader; dataStart: number }> {
  const length = await readHeaderLength(file);
  const dataStart = HEADER_LENGTH_BYTES + length;
  const bytes = new Uint8Array(length);
  await readExactly(file, HEADER_LENGTH_BYTES, bytes);
  return { header: parseHeader(file.path, bytes, file.size - dataStart), dataStart };
}

/**
 * A safetensors file, open for reading. The header is checked in full before any tensor's memory is taken; tensors are
 * read one at a time, on demand. Close it, or use `await using`.
 *
 * @example
 * const file = await SafetensorsFile.open("model.safetensors");
 * const weights = await file.readFloat32("conv1.weight");
 * await file.close();
 *
 * Source: the format of huggingface/safetensors.
 */
export class SafetensorsFile {
  /** The tensors by name, in the order of their data. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** The file's `__metadata__`; empty where it has none. */
  readonly metadata: ReadonlyMap<string, string>;
  /** Bytes before the data: the length field and the header. */
  readonly dataStart: number;
  private readonly file: OpenFile;
  private closed = false;

  private constructor(file: OpenFile, header: SafetensorsHeader, dataStart: number) {
    this.file = file;
    this.tensors = header.tensors;
    this.metadata = header.metadata;
    this.dataStart = dataStart;
  }

  /**
   * Opens a file and checks its header.
   *
   * @throws {@link FishermaskError} `ERR_FM_IO` when it cannot be read, `ERR_FM_BAD_FILE` when it is no valid file
   */
  static async open(path: string): Promise<SafetensorsFile> {
    const file = await openRegularFile(path);
    try {
      const { header, dataStart } = await readHeader(file);
      return new SafetensorsFile(file, header, dataStart);
    } catch (error) {
      await file.handle.close().catch(() => undefined);
      throw error;
    }
  }

  get path(): string {
    return this.file.path;
  }

  /** Size of the file in bytes. */
  get size(): number {
    return this.file.size;
  }

  /**
   * What the header says of a tensor.
   *
   * @throws {@link FishermaskError} `ERR_FM_ARGUMENT` when there is none of this name
   */
  info(name: string): TensorInfo {
    const info = this.tensors.get(name);
    if (info === undefined) {
      throw new FishermaskError(
        "ERR_FM_ARGUMENT",
        `Expected the name of one of the ${this.tensors.size} tensors of ${this.path} but received "${name}"`,
        { details: { path: this.path, tensor: name } },
      );
    }
    return info;
  }

  /**
   * What {@link info} says of a tensor whose type converts to and from f32.
   *
   * @throws {@link FishermaskError} `ERR_FM_ARGUMENT` for an unknown name, `ERR_FM_DTYPE` for any other type
   */
  floatInfo(name: string): TensorInfo & { readonly dtype: FloatDtype } {
    const info = this.info(name);
    const { dtype } = info;
    if (!isFloatDtype(dtype)) {
      const expected = Object.keys(FLOAT_BYTES).join(", ");
      throw new FishermaskError(
        "ERR_FM_DTYPE",
        `Expected one of ${expected} for the dtype of tensor "${name}" of ${this.path} but received ${dtype}`,
        { details: { path: this.path, tensor: name } },
      );
    }
    return { ...info, dtype };
  }

  /**
   * A tensor's elements, row-major. F32, F16 and BF16 convert exactly (NaN and infinity included); F64 is rounded to the
   * nearest f32.
   *
   * @throws {@link FishermaskError} `ERR_FM_DTYPE` for other types, `ERR_FM_NON_FINITE` for a finite F64 beyond f32's
   * range, `ERR_FM_BAD_FILE` or `ERR_FM_IO` when the file changed or fails, `ERR_FM_DISPOSED` after `close`
   */
  async readFloat32(name: string): Promise<Float32Array<ArrayBuffer>> {
    const { dtype, shape, begin } = this.floatInfo(name);
    const values = new Float32Array(elementCount(shape) as number);
    if (dtype === "F32") {
      await this.readAt(this.dataStart + begin, new Uint8Array(values.buffer));
      return values;
    }
    const width = FLOAT_BYTES[dtype];
    const perChunk = kChunkBytes / width;
    for (let start = 0; start < values.length; start += perChunk) {
      const part = values.subarray(start, start + perChunk);
      const bytes = new Uint8Array(part.length * width);
      await this.readAt(this.dataStart + begin + start * width, bytes);
      const overflow = decodeFloats(dtype, bytes, part);
      if (overflow >= 0) {
        const value = new DataView(bytes.buffer).getFloat64(overflow * width, true);
        throw nonFiniteError(this.path, name, start + overflow, "a value in f32's range", value);
      }
    }
    return values;
  }

  /**
   * A tensor's bytes as they are stored: row-major, little-endian.
   *
   * @throws {@link FishermaskError} as {@link readFloat32}, but for any type
   */
  async readBytes(name: string): Promise<Uint8Array<ArrayBuffer>> {
    const { begin, end } = this.info(name);
    const bytes = new Uint8Array(end - begin);
    await this.readAt(this.dataStart + begin, bytes);
    return bytes;
  }

  /**
   * Fills `target` from byte `position` of the file.
   *
   * @throws {@link FishermaskError} `ERR_FM_BAD_FILE`, `ERR_FM_IO`, `ERR_FM_DISPOSED`
   */
  async readAt(position: number, target: Uint8Array): Promise<void> {
    if (this.closed) {
      throw new FishermaskError("ERR_FM_DISPOSED", `${this.path} was read after it was closed`);
    }
    await readExactly(this.file, position, target);
  }

  /** Closes the file. A second call does nothing. */
  async close(): Promise<void> {
    if (!this.closed) {
      this.closed = true;
      await this.file.handle.close();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
