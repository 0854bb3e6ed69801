import { type PhiloxKey, PhiloxStream } from "./philox.js";

/** A copy in random order: Fisher-Yates, exactly uniform over the generator's words, the same for the same key. */
export function shuffled(values: Int32Array, key: PhiloxKey): Int32Array {
  const result = values.slice();
  const random = new PhiloxStream(key);
  for (let last = result.length - 1; last > 0; last -= 1) {
    const other = random.below(last + 1);
    const value = result[last] as number;
    result[last] = result[other] as number;
    result[other] = value;
  }
  return result;
}
