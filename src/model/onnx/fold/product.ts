import type { OnnxArray } from "../../../io/onnx/model.js";
import { broadcastDims, elementCount } from "../operand.js";
import { bigIntsOf, foldError, integerArray, takeElements, withDims } from "./array.js";
import type { Folder, Folders } from "./attributes.js";
import { broadcastPlaces, forEachIndex } from "./places.js";

/** The integers less a zero point: one, or one per row (axis −2) or column (−1). */
function centred(
  array: OnnxArray,
  zero: OnnxArray | null | undefined,
  axis: -1 | -2,
): readonly bigint[] {
  const values = bigIntsOf(array);
  if (!zero) return values;
  const points = bigIntsOf(zero);
  if (points.length !== 1 && (zero.dims.length !== 1 || points.length !== array.dims.at(axis))) {
    throw foldError("a zero point per tensor or line", `(${zero.dims.join()})`);
  }
  const inner = axis === -1 ? 1 : (array.dims.at(-1) as number);
  return values.map(
    (value, i) => value - (points[Math.floor(i / inner) % points.length] as bigint),
  );
}

function batches(array: OnnxArray, lead: readonly number[]): OnnxArray {
  const dims = [...lead, ...array.dims.slice(-2)];
  return takeElements(array, dims, broadcastPlaces(array.dims, dims).places);
}

/** A vector in front is a row, one behind a column; the size of 1 goes again at the end. */
const matMulInteger: Folder = ([a, b, aZero, bZero]) => {
  if (!a || !b || a.dims.length < 1 || b.dims.length < 1) return null;
  const left = a.dims.length === 1 ? withDims(a, [1, ...a.dims]) : a;
  const right = b.dims.length === 1 ? withDims(b, [...b.dims, 1]) : b;
  const lead = broadcastDims(left.dims.slice(0, -2), right.dims.slice(0, -2));
  const [rows = 0, inner = 0] = left.dims.slice(-2);
  const columns = right.dims.at(-1) as number;
  if (lead === undefined || right.dims.at(-2) !== inner) {
    throw foldError("matrices that multiply", `(${a.dims.join()}) and (${b.dims.join()})`);
  }
  const first = centred(batches(left, lead), aZero, -2);
  const second = centred(batches(right, lead), bZero, -1);
  const values: bigint[] = [];
  forEachIndex([elementCount(lead), rows, columns], ([batch = 0, row = 0, column = 0]) => {
    let sum = 0n;
    for (let k = 0; k < inner; k++) {
      const x = first[(batch * rows + row) * inner + k] as bigint;
      sum += x * (second[(batch * inner + k) * columns + column] as bigint);
    }
    values.push(sum);
  });
  const dims = [
    ...lead,
    ...(a.dims.length === 1 ? [] : [rows]),
    ...(b.dims.length === 1 ? [] : [columns]),
  ];
  return [integerArray("int32", dims, values)];
};

/** Products of small integers, exact in int32. */
export const productFolders: Folders = { MatMulInteger: matMulInteger };
