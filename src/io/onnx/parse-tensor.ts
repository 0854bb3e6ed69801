import { DTYPE_LAYOUT, dtypeOfCode, entryBytes, rawBytes, typedEntries } from "./dtypes.js";
import { normalLocation } from "./location.js";
import type { OnnxDType, OnnxTensor } from "./model.js";
import type { ByteRange, OnnxStorage, TypedField, TypedPiece } from "./storage.js";
import { MAX_VARINT_BYTES, type Reading, WIRE, type WireReader } from "./wire.js";

const kTypedFields: ReadonlyMap<number, TypedField> = new Map([
  [4, "float_data"],
  [5, "int32_data"],
  [6, "string_data"],
  [7, "int64_data"],
  [10, "double_data"],
  [11, "uint64_data"],
]);

const kTensorCost = 400;
const kPieceCost = 120;

/** The fields of a TensorProto as they come, before they are held against each other. */
interface TensorDraft {
  name: string;
  dims: bigint[];
  dtypeCode: number;
  raw: ByteRange | null;
  typed: TypedField | null;
  pieces: TypedPiece[];
  /** Entries of the typed field: a varint's length is not known before it is read. */
  leastEntries: number;
  mostEntries: number;
  isExternal: boolean;
  external: Map<string, string>;
}

/** Adds the bytes of one entry to the run of entries that it follows, or begins a run. */
function addSingle(reader: WireReader, draft: TensorDraft): void {
  draft.leastEntries += 1;
  draft.mostEntries += 1;
  const last = draft.pieces.at(-1);
  if (last !== undefined && !last.packed && last.range.end === reader.fieldBegin) {
    const range = { begin: last.range.begin, end: reader.valueEnd };
    draft.pieces[draft.pieces.length - 1] = { packed: false, range };
    return;
  }
  reader.charge(kPieceCost);
  draft.pieces.push({ packed: false, range: { begin: reader.fieldBegin, end: reader.valueEnd } });
}

function addPacked(reader: WireReader, draft: TensorDraft, width: 4 | 8 | null): void {
  const range = { begin: reader.valueBegin, end: reader.valueEnd };
  const length = range.end - range.begin;
  if (length === 0) {
    return;
  }
  if (width !== null && length % width !== 0) {
    throw reader.fault(`a multiple of ${width} bytes`, `${length}`);
  }
  draft.leastEntries += Math.ceil(length / (width ?? MAX_VARINT_BYTES));
  draft.mostEntries += length / (width ?? 1);
  reader.charge(kPieceCost);
  draft.pieces.push({ packed: true, range });
}

function addTyped(reader: WireReader, draft: TensorDraft, field: TypedField): void {
  if (draft.typed !== null && draft.typed !== field) {
    throw reader.fault("one data field", `${draft.typed} and ${field}`);
  }
  draft.typed = field;
  const width = entryBytes(field);
  if (field === "string_data") {
    reader.expectWire(WIRE.bytes);
    addSingle(reader, draft);
  } else if (reader.wire === WIRE.bytes) {
    addPacked(reader, draft, width);
  } else {
    const fixed = width === 4 ? WIRE.fixed32 : WIRE.fixed64;
    reader.expectWire(width === null ? WIRE.varint : fixed);
    addSingle(reader, draft);
  }
}

/** A StringStringEntryProto. */
export function* parseEntry(reader: WireReader, end: number): Reading<[string, string]> {
  let key = "";
  let value = "";
  while (yield* reader.nextField(end)) {
    if (reader.field === 1) {
      key = yield* reader.text();
    } else if (reader.field === 2) {
      value = yield* reader.text();
    }
  }
  return [key, value];
}

function* addExternal(reader: WireReader, draft: TensorDraft): Reading<void> {
  const [key, value] = yield* reader.message("external_data", parseEntry);
  if (draft.external.has(key)) {
    throw reader.fault("external_data keys that differ", `"${key}" twice`);
  }
  draft.external.set(key, value);
}

function* readField(reader: WireReader, draft: TensorDraft): Reading<void> {
  const typed = kTypedFields.get(reader.field);
  if (typed !== undefined) {
    addTyped(reader, draft, typed);
    return;
  }
  switch (reader.field) {
    case 1:
      yield* reader.int64s(draft.dims);
      break;
    case 2:
      draft.dtypeCode = reader.integer("data_type");
      break;
    case 3:
      throw reader.fault("a whole tensor", "a segment of one");
    case 8:
      draft.name = yield* reader.text();
      break;
    case 9:
      reader.expectWire(WIRE.bytes);
      if (draft.raw !== null) {
        throw reader.fault("one raw_data", "two");
      }
      draft.raw = { begin: reader.valueBegin, end: reader.valueEnd };
      break;
    case 13:
      yield* addExternal(reader, draft);
      break;
    case 14:
      draft.isExternal = reader.integer("data_location") === 1;
      break;
  }
}

function checkedDims(reader: WireReader, dims: readonly bigint[]): number[] {
  let product = 1n;
  for (const dim of dims) {
    if (dim < 0n) {
      throw reader.fault("dims from 0", `${dim}`);
    }
    product *= dim === 0n ? 1n : dim;
    // Checked in every step: a product of thousands of large factors would itself take long.
    if (product > BigInt(Number.MAX_SAFE_INTEGER)) {
      throw reader.fault("dims whose product is below 2^53", `${dims.length} of a larger product`);
    }
  }
  return dims.map(Number);
}

function decimal(reader: WireReader, key: string, text: string): number {
  const value = Number(text);
  if (!/^[0-9]{1,16}$/.test(text) || !Number.isSafeInteger(value)) {
    throw reader.fault(
      `a decimal number as external_data's ${key}`,
      JSON.stringify(text.slice(0, 80)),
    );
  }
  return value;
}

function externalStorage(
  reader: WireReader,
  draft: TensorDraft,
  bytes: number,
): Extract<OnnxStorage, { kind: "external" }> {
  const given = draft.external.get("location");
  if (given === undefined) {
    throw reader.fault("a location in external_data", "none");
  }
  const location = normalLocation(given);
  if (location === null) {
    const expected =
      'a path below the model\'s folder (relative, with "/", without "..") as location';
    throw reader.fault(expected, JSON.stringify(given.slice(0, 200)));
  }
  const offset = decimal(reader, "offset", draft.external.get("offset") ?? "0");
  const length = decimal(reader, "length", draft.external.get("length") ?? `${bytes}`);
  if (length !== bytes) {
    throw reader.fault(`${bytes} bytes of external data`, `${length}`);
  }
  return { kind: "external", location, offset, length };
}

/** Holds a length against the elements; every file's data pass here before memory is taken for them. */
function localStorage(
  reader: WireReader,
  draft: TensorDraft,
  dtype: OnnxDType,
  elements: number,
): OnnxStorage {
  const { raw, typed, pieces } = draft;
  if (pieces.length > 0 && typed !== null) {
    const { field } = DTYPE_LAYOUT[dtype];
    if (typed !== field || (raw !== null && raw.end > raw.begin)) {
      throw reader.fault(`${dtype} data in ${field} or raw_data alone`, `${typed}`);
    }
    const entries = typedEntries(dtype, elements);
    if (entries < draft.leastEntries || entries > draft.mostEntries) {
      const { leastEntries: least, mostEntries: most } = draft;
      const received = least === most ? `${least}` : `${least} to ${most}`;
      throw reader.fault(`${entries} entries of ${field}`, received);
    }
    return { kind: "typed", field, pieces };
  }
  const length = raw === null ? 0 : raw.end - raw.begin;
  if (elements === 0 && length === 0) {
    return { kind: "none" };
  }
  if (dtype === "string" || raw === null) {
    throw reader.fault(
      `data of ${elements} elements`,
      raw === null ? "none" : "raw_data of strings",
    );
  }
  if (length !== rawBytes(dtype, elements)) {
    throw reader.fault(`${rawBytes(dtype, elements)} bytes of ${dtype}`, `${length}`);
  }
  return { kind: "raw", range: raw };
}

function finish(reader: WireReader, draft: TensorDraft): OnnxTensor {
  const dtype = dtypeOfCode(draft.dtypeCode);
  if (dtype === null) {
    throw reader.fault("a data_type of ONNX", `${draft.dtypeCode}`);
  }
  const dims = checkedDims(reader, draft.dims);
  const elements = dims.reduce((product, dim) => product * dim, 1);
  const { name } = draft;
  if (!draft.isExternal) {
    const storage = localStorage(reader, draft, dtype, elements);
    return { name, dtype, dims, elements, storage, external: null };
  }
  if (dtype === "string" || draft.raw !== null || draft.pieces.length > 0) {
    throw reader.fault("data in an external file alone", `${dtype} data in the model too`);
  }
  const storage = externalStorage(reader, draft, rawBytes(dtype, elements));
  const tensor = { name, dtype, dims, elements, storage, external: storage.location };
  reader.externals.push(tensor);
  return tensor;
}

/** A TensorProto. Its data are passed over, and their length is held against the dims. */
export function* parseTensor(reader: WireReader, end: number): Reading<OnnxTensor> {
  const begin = reader.fieldBegin;
  reader.charge(kTensorCost);
  const draft: TensorDraft = {
    name: "",
    dims: [],
    dtypeCode: 0,
    raw: null,
    typed: null,
    pieces: [],
    leastEntries: 0,
    mostEntries: 0,
    isExternal: false,
    external: new Map(),
  };
  while (yield* reader.nextField(end)) {
    yield* readField(reader, draft);
  }
  reader.fieldBegin = begin;
  return finish(reader, draft);
}
