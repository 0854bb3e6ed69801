import { type ChildProcess, spawn } from "node:child_process";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { badFile, ioError } from "../../io/file-error.js";
import { type OpenFile, openRegularFile } from "../../io/read.js";
import { FishermaskError } from "../../native/errors.js";
import {
  kParquetChild,
  type ParquetColumn,
  type ParquetReply,
  type ParquetRequest,
  type ParquetSummary,
} from "./parquet-child.js";

/** What reading a file may cost. */
export interface ParquetLimits {
  /** Milliseconds for the footer, or for one column of one row group. */
  readonly patienceMs?: number;
  /** Of what is read at once, its pictures' bytes not counted. */
  readonly heapMegabytes?: number;
}

// A gigabyte of pages unpacks in seconds, also on a busy machine; what takes longer is not going to end.
const kPatienceMs = 120_000;
const kHeapMegabytes = 512;
// Writers close a page after about a megabyte, or after one value that is larger.
const kMaxPageBytes = 512 * 1024 * 1024;

const require = createRequire(import.meta.url);
const urlOf = (name: string): string => pathToFileURL(require.resolve(name)).href;

function startChild({ handle }: OpenFile, heapMegabytes: number): ChildProcess {
  const child = spawn(
    process.execPath,
    [`--max-old-space-size=${heapMegabytes}`, "--eval", kParquetChild],
    {
      // The file's place is kParquetFd. A child that runs out of memory has pages to say about itself: to nobody.
      stdio: ["ignore", "ignore", "ignore", "ipc", handle.fd],
      serialization: "advanced",
      env: { ...process.env, NODE_OPTIONS: "" },
      windowsHide: true,
    },
  );
  // Who asks learns of a failure; between two questions nobody listens, and an event without a listener ends the process.
  return child.on("error", () => undefined);
}

/** The child's replies to one request, up to the last; rejects when it ends before. */
function repliesOf(
  path: string,
  child: ChildProcess,
  request: ParquetRequest,
  stop: AbortSignal,
): Promise<ParquetReply[]> {
  return new Promise((settle, reject) => {
    const replies: ParquetReply[] = [];
    const onReply = (reply: ParquetReply): void => {
      replies.push(reply);
      if ("refusal" in reply) reject(new Error(reply.refusal));
      else if (!("bytes" in reply) || reply.isLast) settle(replies);
    };
    const onEnd = (code: number | null, signal: string | null): void =>
      reject(new Error(`what takes too much memory or ends its reader (${signal ?? code})`));
    const onError = (cause: Error): void => reject(ioError("start a process to read", path, cause));
    child.on("message", onReply).once("exit", onEnd).once("error", onError);
    stop.addEventListener("abort", () => {
      child.off("message", onReply).off("exit", onEnd).off("error", onError);
      reject(stop.reason);
    });
    child.send(request, (error) => error !== null && reject(error));
  });
}

/**
 * An open Parquet file, read by a child process one column of one row group at a time. The file is untrusted: every byte range
 * is checked against its length, and a footer or page that takes too long or too much memory ends the child, not this process.
 */
export class ParquetFile {
  readonly path: string;
  readonly #file: OpenFile;
  readonly #child: ChildProcess;
  readonly #patienceMs: number;
  readonly #kill = (): unknown => this.#child.kill("SIGKILL");
  #summary: ParquetSummary = { groups: [], columns: [], huggingface: null };

  private constructor(file: OpenFile, limits: ParquetLimits) {
    this.path = file.path;
    this.#file = file;
    this.#patienceMs = limits.patienceMs ?? kPatienceMs;
    this.#child = startChild(file, limits.heapMegabytes ?? kHeapMegabytes);
    process.once("exit", this.#kill);
  }

  /** @throws {@link FishermaskError} `ERR_FM_IO`; `ERR_FM_BAD_FILE` for a footer that cannot be read */
  static async open(path: string, limits: ParquetLimits = {}): Promise<ParquetFile> {
    const file = await openRegularFile(path);
    const opened = new ParquetFile(file, limits);
    try {
      const [reply] = await opened.#ask(
        {
          kind: "start",
          size: file.size,
          hyparquet: urlOf("hyparquet"),
          compressors: urlOf("hyparquet-compressors"),
          maxPageBytes: kMaxPageBytes,
        },
        "the footer",
      );
      if (reply !== undefined && "summary" in reply) opened.#summary = reply.summary;
      return opened;
    } catch (error) {
      await opened.close();
      throw error;
    }
  }

  /** Rows of each row group, as the file has it; not more than a claim until a column of it is read. */
  get groups(): readonly number[] {
    return this.#summary.groups;
  }

  get columns(): readonly ParquetColumn[] {
    return this.#summary.columns;
  }

  /** What the library `datasets` noted of the columns: JSON. */
  get huggingface(): string | null {
    return this.#summary.huggingface;
  }

  /**
   * Whole numbers of a row group, NaN where there is none.
   *
   * @throws {@link FishermaskError} `ERR_FM_BAD_FILE` naming the column and the row group
   */
  async integers(column: string, group: number): Promise<Float64Array> {
    const where = `row group ${group} of column "${column}"`;
    const [reply] = await this.#ask({ kind: "integers", column, group }, where);
    return reply !== undefined && "integers" in reply ? reply.integers : new Float64Array(0);
  }

  /**
   * The bytes of each row of a row group, null where there are none.
   *
   * @throws {@link FishermaskError} `ERR_FM_BAD_FILE` naming the column and the row group
   */
  async bytes(column: string, group: number): Promise<readonly (Uint8Array | null)[]> {
    const where = `row group ${group} of column "${column}"`;
    const replies = await this.#ask({ kind: "bytes", column, group }, where);
    return replies.flatMap((reply) => ("bytes" in reply ? reply.bytes : []));
  }

  async close(): Promise<void> {
    process.off("exit", this.#kill);
    this.#kill();
    await this.#file.handle.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #ask(request: ParquetRequest, where: string): Promise<readonly ParquetReply[]> {
    const stop = new AbortController();
    const late = new Error(`more than ${this.#patienceMs / 1000} s of work`);
    const timer = setTimeout(() => stop.abort(late), this.#patienceMs);
    try {
      return await repliesOf(this.path, this.#child, request, stop.signal);
    } catch (cause) {
      // Nothing more is asked of it; it may be busy for ever.
      this.#kill();
      if (cause instanceof FishermaskError) throw cause;
      throw badFile(this.path, where, "readable Parquet", (cause as Error).message, cause);
    } finally {
      clearTimeout(timer);
      stop.abort();
    }
  }
}
