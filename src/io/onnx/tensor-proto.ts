import { FishermaskError } from "../../native/errors.js";
import { badFile } from "../file-error.js";
import { decodeTensor } from "./decode.js";
import type { OnnxArray, OnnxTensor } from "./model.js";
import { parseTensor } from "./parse-tensor.js";
import { type Reading, runOnBytes, WIRE, WireReader } from "./wire.js";

/**
 * Whether the bytes are those of a SequenceProto or OptionalProto: these have a name where a TensorProto has dims, and
 * messages where it has a segment, which nobody writes. An empty one is no valid TensorProto either: it has no data.
 */
function* isNoTensor(reader: WireReader, end: number): Reading<boolean> {
  let fields = 0;
  let last = 0;
  while (yield* reader.nextField(end)) {
    fields += 1;
    last = Math.max(last, reader.field);
    if (reader.field === 3 && reader.wire === WIRE.bytes) {
      return true;
    }
  }
  return fields > 0 && last <= 2 && fields === 1;
}

/**
 * Reads a TensorProto in memory, such as the `input_0.pb` of ONNX's test data.
 *
 * @param source the file's name, for messages
 * @returns the tensor's name and elements, row-major
 * @throws {@link FishermaskError} `ERR_FM_UNSUPPORTED` when the bytes are a SequenceProto or OptionalProto,
 * `ERR_FM_BAD_FILE` when they are no TensorProto or one with external data, `ERR_FM_DTYPE` as `OnnxFile.readTensor`
 */
export function parseTensorProto(bytes: Uint8Array, source: string): OnnxArray & { name: string } {
  const end = bytes.byteLength;
  if (runOnBytes(isNoTensor(new WireReader(source, bytes), end), bytes)) {
    throw new FishermaskError(
      "ERR_FM_UNSUPPORTED",
      `Expected a TensorProto in ${source} but received a SequenceProto or OptionalProto`,
      { details: { path: source } },
    );
  }
  const reader = new WireReader(source, bytes);
  const tensor: OnnxTensor = runOnBytes(parseTensor(reader, end), bytes);
  if (tensor.external !== null) {
    throw badFile(source, `tensor ${JSON.stringify(tensor.name)}`, "its data", "external data");
  }
  return { name: tensor.name, ...runOnBytes(decodeTensor(source, tensor), bytes) };
}
