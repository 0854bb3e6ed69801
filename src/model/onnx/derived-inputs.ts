import type { OnnxDType, OnnxValueInfo } from "../../io/onnx/model.js";
import { FishermaskError } from "../../native/errors.js";
import { castArray } from "./fold/cast.js";
import type { InputBinding } from "./import.js";

/** What an input of a token model is that follows from the ids. */
export type DerivedKind = "mask" | "zeros" | "positions";

// As Hugging Face's models and the first BERT name them, with what exporters put around.
const kNames: readonly (readonly [RegExp, DerivedKind])[] = [
  [/(^|[./])(attention_mask|input_mask)(:\d+)?$/, "mask"],
  [/(^|[./])(token_type_ids|segment_ids)(:\d+)?$/, "zeros"],
  [/(^|[./])position_ids(:\d+)?$/, "positions"],
];

/** undefined for an input that is fed with samples or that no ids tell. */
export function derivedKind({ name }: OnnxValueInfo): DerivedKind | undefined {
  return kNames.find(([pattern]) => pattern.test(name))?.[1];
}

/** The refusal of a file for what it has. */
export function refuse(path: string, what: string, received: string): FishermaskError {
  return new FishermaskError(
    "ERR_FM_UNSUPPORTED",
    `Expected ${what} for ${path} but received ${received}`,
    { details: { path } },
  );
}

/** `name: type (sizes)`. */
export function dimsText(info: OnnxValueInfo): string {
  const dims = info.dims?.map((size) => size ?? "?").join(", ") ?? "unknown sizes";
  return `${info.name}: ${info.dtype ?? info.kind} (${dims})`;
}

function constant(values: readonly number[], dtype: OnnxDType): InputBinding | undefined {
  const data = BigInt64Array.from(values, BigInt);
  const array = castArray({ dtype: "int64", dims: [1, values.length], data }, dtype);
  return array === null ? undefined : { kind: "constant", array };
}

/**
 * What stands in for an input (N, T) of this kind, of one sample of T ids: 1 for each id and 0 for padding, zeros, or
 * 0 … T − 1.
 *
 * @throws {@link FishermaskError} `ERR_FM_UNSUPPORTED` naming the input, where its type or sizes are others
 */
export function derivedBinding(
  info: OnnxValueInfo,
  ids: string,
  length: number,
  path: string,
): InputBinding {
  const { dims, dtype } = info;
  const [, size] = dims ?? [];
  const fits = dims?.length === 2 && (typeof size !== "number" || size <= 0 || size === length);
  if (!fits || dtype === null) throw refuse(path, `sizes (N, ${length})`, dimsText(info));
  const kind = derivedKind(info);
  if (kind === "mask") return { kind, ids, dtype };
  const values = Array.from({ length }, (_, i) => (kind === "positions" ? i : 0));
  const binding = constant(values, dtype);
  if (binding === undefined) throw refuse(path, "whole numbers or floats", dimsText(info));
  return binding;
}
