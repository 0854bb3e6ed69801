import { FishermaskError } from "../../native/errors.js";
import { badFile } from "../file-error.js";
import { decodeTensor } from "./decode.js";
import type { OnnxArray, OnnxTensor } from "./model.js";
import { parseTensor } from "./parse-tensor.js";
import { type Reading, runOnBytes, WIRE, WireReader } from "./wire.js";

const kLastListField = 7;

/** What tells a SequenceProto or OptionalProto from a TensorProto, as far as the wire format lets one tell. */
interface Likeness {
  /** Has messages where a TensorProto has a segment, which nobody writes, or nothing but the type of its elements. */
  readonly isList: boolean;
  /** Has a printable name where a TensorProto has packed dims: dims of 32 to 126 look the same. */
  readonly mayBeList: boolean;
}

function* likeness(reader: WireReader, end: number): Reading<Likeness> {
  let fields = 0;
  let last = 0;
  let isNamed = false;
  let hasMessages = false;
  while (yield* reader.nextField(end)) {
    const isBytes = reader.wire === WIRE.bytes;
    fields += 1;
    last = Math.max(last, reader.field);
    hasMessages ||= reader.field === 3 && isBytes;
    if (reader.field === 1 && isBytes) {
      isNamed = (yield* reader.bytes()).every((byte) => byte >= 0x20);
    }
  }
  const isEmpty = fields === 1 && last === 2;
  return { isList: hasMessages || isEmpty, mayBeList: isNamed && last <= kLastListField };
}

function listError(source: string, cause?: unknown): FishermaskError {
  return new FishermaskError(
    "ERR_FM_UNSUPPORTED",
    `Expected a TensorProto in ${source} but received what reads as a SequenceProto or OptionalProto`,
    { details: { path: source }, ...(cause === undefined ? {} : { cause }) },
  );
}

function parse(bytes: Uint8Array, source: string): OnnxTensor {
  const end = bytes.byteLength;
  const { isList, mayBeList } = runOnBytes(likeness(new WireReader(source, bytes), end), bytes);
  if (isList) {
    throw listError(source);
  }
  try {
    return runOnBytes(parseTensor(new WireReader(source, bytes), end), bytes);
  } catch (error) {
    throw mayBeList ? listError(source, error) : error;
  }
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
  const tensor = parse(bytes, source);
  if (tensor.external !== null) {
    throw badFile(source, `tensor ${JSON.stringify(tensor.name)}`, "its data", "external data");
  }
  return { name: tensor.name, ...runOnBytes(decodeTensor(source, tensor), bytes) };
}
