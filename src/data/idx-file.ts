import { createReadStream } from "node:fs";
import { pipeline } from "node:stream/promises";
import { createGunzip } from "node:zlib";
import { badFile, ioError } from "../io/file-error.js";
import { openRegularFile } from "../io/read.js";
import { FishermaskError } from "../native/errors.js";

/** The first items of a file, and how many it holds in all. */
export interface IdxArray {
  readonly total: number;
  /** The sizes of one item; none for labels. */
  readonly itemSizes: readonly number[];
  /** The items up to the limit, row-major. */
  readonly data: Uint8Array;
}

// Deflate packs at most 258 bytes into 2 bits; a file that claims more than this lies.
const kMaxInflation = 1032;
const kUnsignedByte = 0x08;

/** Takes a file's bytes as they come: the header first, then the items up to the limit; the rest is only counted. */
class IdxReader {
  private readonly header: Uint8Array;
  private received = 0;
  private expected = Number.POSITIVE_INFINITY;
  private total = 0;
  private itemSizes: readonly number[] = [];
  private data = new Uint8Array(0);

  constructor(
    private readonly path: string,
    private readonly dimensions: number,
    private readonly maxBytes: number,
    private readonly limit: number,
  ) {
    this.header = new Uint8Array(4 + 4 * dimensions);
  }

  push(chunk: Uint8Array): void {
    let rest = chunk;
    if (this.received < this.header.length) {
      const taken = chunk.subarray(0, this.header.length - this.received);
      this.header.set(taken, this.received);
      this.received += taken.length;
      rest = chunk.subarray(taken.length);
      if (this.received < this.header.length) {
        return;
      }
      this.readHeader();
    }
    const offset = this.received - this.header.length;
    this.received += rest.length;
    if (this.received > this.expected) {
      throw badFile(this.path, "the length", `${this.expected} bytes`, "more than that");
    }
    if (offset < this.data.length) {
      this.data.set(rest.subarray(0, this.data.length - offset), offset);
    }
  }

  finish(): IdxArray {
    if (this.received < this.header.length) {
      const bytes = `at least ${this.header.length} bytes`;
      throw badFile(this.path, "the length", bytes, `${this.received} bytes`);
    }
    if (this.received !== this.expected) {
      throw badFile(this.path, "the length", `${this.expected} bytes`, `${this.received} bytes`);
    }
    return { total: this.total, itemSizes: this.itemSizes, data: this.data };
  }

  private readHeader(): void {
    const view = new DataView(this.header.buffer);
    const magic = view.getUint32(0);
    const wanted = (kUnsignedByte << 8) | this.dimensions;
    if (magic !== wanted) {
      throw badFile(this.path, "the magic number", `${wanted}`, `${magic}`);
    }
    const sizes = Array.from({ length: this.dimensions }, (_, i) => view.getUint32(4 + 4 * i));
    const [count = 0, ...itemSizes] = sizes;
    const itemBytes = itemSizes.reduce((product, size) => product * size, 1);
    this.expected = this.header.length + count * itemBytes;
    if (count === 0 || itemBytes === 0) {
      throw badFile(this.path, "the sizes", "sizes from 1", sizes.join(" x "));
    }
    if (this.expected > this.maxBytes) {
      const most = `sizes of at most ${this.maxBytes} bytes (all that this file can hold)`;
      throw badFile(this.path, "the sizes", most, `${sizes.join(" x ")}, ${this.expected} bytes`);
    }
    this.total = count;
    this.itemSizes = itemSizes;
    this.data = new Uint8Array(Math.min(count, this.limit) * itemBytes);
  }
}

function translate(path: string, cause: unknown): unknown {
  const code = String((cause as NodeJS.ErrnoException).code);
  return code.startsWith("Z_")
    ? badFile(path, "the compressed data", "a whole gzip stream", (cause as Error).message, cause)
    : ioError("read", path, cause);
}

/**
 * Reads an IDX file of unsigned bytes, gunzipping it where its name ends in `.gz`. Its length must be what its header
 * says, neither more nor less; memory is taken only for sizes that a file of this length can hold.
 *
 * @param dimensions 1 for labels, 3 for images
 * @param limit keep the first so many items
 * @throws {@link FishermaskError} `ERR_FM_IO`, or `ERR_FM_BAD_FILE` naming the file, expected and actual
 * Source: http://yann.lecun.com/exdb/mnist/ ("the IDX file format")
 */
export async function readIdx(
  path: string,
  dimensions: number,
  limit: number = Number.POSITIVE_INFINITY,
): Promise<IdxArray> {
  const { handle, size } = await openRegularFile(path);
  await handle.close();
  const compressed = path.endsWith(".gz");
  const reader = new IdxReader(path, dimensions, compressed ? size * kMaxInflation : size, limit);
  // Kept aside: a pipeline whose last step fails may reject with the broken pipe instead of the reason.
  let refusal: unknown;
  const consume = async (source: AsyncIterable<Uint8Array>): Promise<void> => {
    try {
      for await (const chunk of source) {
        reader.push(chunk);
      }
    } catch (error) {
      refusal = error instanceof FishermaskError ? error : undefined;
      throw error;
    }
  };
  try {
    const file = createReadStream(path);
    await (compressed ? pipeline(file, createGunzip(), consume) : pipeline(file, consume));
  } catch (cause) {
    throw refusal ?? translate(path, cause);
  }
  return reader.finish();
}
