import { badFile } from "../io/file-error.js";
import { type OpenFile, openRegularFile, readExactly } from "../io/read.js";
import type { ImageDataset } from "./dataset.js";

/** CIFAR's record: some label bytes, then one plane of H x W bytes for each channel. */
export interface PlanarFormat {
  readonly shape: ImageDataset["shape"];
  readonly labelBytes: number;
  /** Which of the label bytes is the label. */
  readonly labelAt: number;
  readonly classCount: number;
}

// Records are read this many at a time, about 3 MiB of CIFAR.
const kRecordsPerRead = 1024;

function recordBytes(format: PlanarFormat): number {
  const [height, width, channels] = format.shape;
  return format.labelBytes + height * width * channels;
}

function countRecords(file: OpenFile, format: PlanarFormat): number {
  const bytes = recordBytes(format);
  if (file.size === 0 || file.size % bytes !== 0) {
    const whole = Math.max(1, Math.round(file.size / bytes));
    const expected = `a positive multiple of ${bytes} bytes (such as ${whole * bytes})`;
    throw badFile(file.path, "the length", expected, `${file.size} bytes`);
  }
  return file.size / bytes;
}

/** Channels first to channels last. */
function interleave(planes: Uint8Array, target: Uint8Array, channels: number): void {
  const pixels = planes.length / channels;
  for (let channel = 0; channel < channels; channel += 1) {
    const plane = channel * pixels;
    for (let pixel = 0; pixel < pixels; pixel += 1) {
      target[pixel * channels + channel] = planes[plane + pixel] as number;
    }
  }
}

/** Where the samples go: arrays for all of them, and how many are there so far. */
interface Filling {
  readonly images: Uint8Array;
  readonly labels: Int32Array;
  filled: number;
}

async function fillFrom(
  file: OpenFile,
  records: number,
  format: PlanarFormat,
  into: Filling,
): Promise<void> {
  const bytes = recordBytes(format);
  const pixels = bytes - format.labelBytes;
  const buffer = new Uint8Array(Math.min(records, kRecordsPerRead) * bytes);
  for (let first = 0; first < records; first += kRecordsPerRead) {
    const count = Math.min(kRecordsPerRead, records - first);
    await readExactly(file, first * bytes, buffer.subarray(0, count * bytes));
    for (let i = 0; i < count; i += 1) {
      const record = buffer.subarray(i * bytes, (i + 1) * bytes);
      const label = record[format.labelAt] as number;
      if (label >= format.classCount) {
        const expected = `a label from 0 to ${format.classCount - 1}`;
        throw badFile(file.path, `record ${first + i}`, expected, `${label}`);
      }
      into.labels[into.filled] = label;
      const begin = into.filled * pixels;
      const image = into.images.subarray(begin, begin + pixels);
      interleave(record.subarray(format.labelBytes), image, format.shape[2]);
      into.filled += 1;
    }
  }
}

/**
 * Reads files of planar records one after the other, into channels-last images. Every file's length is checked before
 * any memory is taken, also where `limit` leaves it unread.
 *
 * @returns images (N, H, W, C) and labels (N,), N at most `limit`
 * @throws {@link FishermaskError} `ERR_FM_IO`, or `ERR_FM_BAD_FILE` naming file and record
 */
export async function readPlanarRecords(
  paths: readonly string[],
  format: PlanarFormat,
  limit: number = Number.POSITIVE_INFINITY,
): Promise<{ readonly images: Uint8Array; readonly labels: Int32Array }> {
  const files: OpenFile[] = [];
  try {
    for (const path of paths) {
      files.push(await openRegularFile(path));
    }
    const counts = files.map((file) => countRecords(file, format));
    const available = counts.reduce((sum, count) => sum + count, 0);
    const size = Math.min(limit, available);
    const pixels = recordBytes(format) - format.labelBytes;
    const into: Filling = {
      images: new Uint8Array(size * pixels),
      labels: new Int32Array(size),
      filled: 0,
    };
    for (const [i, file] of files.entries()) {
      const records = Math.min(counts[i] as number, size - into.filled);
      await fillFrom(file, records, format, into);
    }
    return into;
  } finally {
    for (const file of files) {
      await file.handle.close();
    }
  }
}
