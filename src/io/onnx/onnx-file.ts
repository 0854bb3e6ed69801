import { FishermaskError } from "../../native/errors.js";
import { badFile } from "../file-error.js";
import { type OpenFile, openRegularFile, readExactly } from "../read.js";
import { decodeTensor } from "./decode.js";
import { checkExternalRange, type ExternalRoots, externalRoots, openExternal } from "./external.js";
import type { OnnxArray, OnnxModel, OnnxTensor } from "./model.js";
import { parseModel } from "./parse-model.js";
import { runOnFile, WireReader } from "./wire.js";

/** Protobuf's own limit for a message, in bytes. Larger models have their data in external files. */
export const MAX_ONNX_BYTES = 2 ** 31 - 1;

/**
 * An ONNX model, open for reading. All of it but the tensors' data is read and checked when it is opened; a tensor's data
 * are read when asked for. Close it, or use `await using`.
 *
 * The file is treated as hostile: lengths are checked before memory is taken, what is kept is bounded by twice the file's
 * size and 48 MiB, and by 512 MiB (a model of 100,000 nodes takes some 100 MiB), and external data are read only from the model's own folder (or the same Hugging Face cache).
 *
 * @example
 * await using file = await OnnxFile.open("model.onnx");
 * for (const tensor of file.model.graph.initializers.values()) {
 *   const { data } = await file.readTensor(tensor);
 * }
 *
 * Source: onnx/onnx.proto and docs/ExternalData.md of onnx/onnx.
 */
export class OnnxFile {
  readonly model: OnnxModel;
  /** Every tensor whose data stand in an external file, wherever it is in the model. */
  readonly externals: readonly OnnxTensor[];
  private readonly file: OpenFile;
  private readonly roots: ExternalRoots;
  private closed = false;

  private constructor(
    file: OpenFile,
    roots: ExternalRoots,
    model: OnnxModel,
    externals: readonly OnnxTensor[],
  ) {
    this.file = file;
    this.roots = roots;
    this.model = model;
    this.externals = externals;
  }

  /**
   * Opens a model and checks all of it but the tensors' values.
   *
   * @throws {@link FishermaskError} `ERR_FM_IO` when it cannot be read, `ERR_FM_BAD_FILE` when it is no valid ONNX model;
   * the message names the field and the byte
   */
  static async open(path: string): Promise<OnnxFile> {
    const file = await openRegularFile(path);
    try {
      if (file.size === 0 || file.size > MAX_ONNX_BYTES) {
        const expected = `1 to ${MAX_ONNX_BYTES} bytes (protobuf allows no more)`;
        throw badFile(path, "the length", expected, `${file.size}`);
      }
      const reader = new WireReader(path, file.size);
      const model = await runOnFile(parseModel(reader, file.size), file);
      return new OnnxFile(file, await externalRoots(path), model, reader.externals);
    } catch (error) {
      await file.handle.close().catch(() => undefined);
      throw error;
    }
  }

  get path(): string {
    return this.file.path;
  }

  /** Size of the model's own file in bytes. */
  get size(): number {
    return this.file.size;
  }

  /** The real path of the folder that the model is in. */
  get folder(): string {
    return this.roots.folder;
  }

  /**
   * A tensor's elements.
   *
   * @param tensor one of this file's model, from wherever it stands in it
   * @throws {@link FishermaskError} `ERR_FM_DTYPE` for strings, complex numbers and floats of 8 bits and fewer,
   * `ERR_FM_BAD_FILE` when the data are not those of the tensor, or external data do not stand where they may,
   * `ERR_FM_OUT_OF_MEMORY`, `ERR_FM_IO`, `ERR_FM_DISPOSED` after `close`
   */
  async readTensor(tensor: OnnxTensor): Promise<OnnxArray> {
    this.checkOpen();
    const { storage } = tensor;
    if (storage.kind !== "external" || storage.length === 0) {
      return await runOnFile(decodeTensor(this.path, tensor), this.file);
    }
    const file = await this.openExternal(storage.location);
    try {
      checkExternalRange(this.path, tensor.name, storage, file.size);
      return await runOnFile(decodeTensor(this.path, tensor), file);
    } finally {
      await file.handle.close();
    }
  }

  /**
   * Fills `target` from byte `position` of the model's own file.
   *
   * @throws {@link FishermaskError} `ERR_FM_BAD_FILE`, `ERR_FM_IO`, `ERR_FM_DISPOSED`
   */
  async readAt(position: number, target: Uint8Array): Promise<void> {
    this.checkOpen();
    await readExactly(this.file, position, target);
  }

  /**
   * Opens an external data file of the model, to be closed by the caller.
   *
   * @param location one of those in {@link externals}
   * @throws {@link FishermaskError} `ERR_FM_BAD_FILE` where it is a link that leads elsewhere, `ERR_FM_IO`,
   * `ERR_FM_DISPOSED`
   */
  async openExternal(location: string): Promise<OpenFile> {
    this.checkOpen();
    return await openExternal(this.roots, location);
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

  private checkOpen(): void {
    if (this.closed) {
      throw new FishermaskError("ERR_FM_DISPOSED", `${this.path} was read after it was closed`);
    }
  }
}
