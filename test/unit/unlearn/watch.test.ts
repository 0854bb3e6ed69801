import { describe, expect, it } from "vitest";
import { subset } from "../../../src/data/dataset.js";
import {
  isAffordable,
  type Sighting,
  stepPays,
  type Watch,
} from "../../../src/unlearn/masking/watch.js";
import { tinyTask } from "./support.js";

/** Judged samples 0, 1, … with these losses; the first `recognised` of them recognised. */
function sighting(
  recognised: number,
  losses: readonly number[],
  right: readonly number[],
): Sighting {
  return {
    recognised: Int32Array.from({ length: recognised }, (_, i) => i),
    forgetAccuracy: recognised / losses.length,
    forgetLoss: losses.reduce((sum, loss) => sum + loss, 0) / losses.length,
    losses: new Map(losses.map((loss, i) => [i, loss])),
    right: Uint8Array.from(right),
  };
}

async function watchOf(weightOfLost: number): Promise<Watch> {
  const { train } = await tinyTask();
  const judged = subset(train, Int32Array.of(0, 1, 2));
  return { judged, watched: null, recognisedLoss: 0, weightOfLost };
}

const BEFORE = sighting(3, [0, 0, 0], [1, 1, 1, 0]);

describe("what a step is worth", () => {
  it("pays where recognised and lost together get less", async () => {
    const watch = await watchOf(2);
    const last = sighting(3, [0, 0, 0], [1, 1, 1, 0]);
    expect(stepPays(watch, BEFORE, last, sighting(2, [0, 0, 5], [1, 1, 1, 0]))).toBe(true);
    // One forgotten, one lost that counts twice.
    expect(stepPays(watch, BEFORE, last, sighting(2, [0, 0, 5], [0, 1, 1, 0]))).toBe(false);
    // The price is the same as the gain: the loss of those that were recognised decides.
    const even = await watchOf(1);
    expect(stepPays(even, BEFORE, last, sighting(2, [0, 0, 5], [0, 1, 1, 0]))).toBe(true);
    expect(stepPays(even, BEFORE, last, sighting(3, [0, 0, 0], [1, 1, 1, 0]))).toBe(false);
  });

  it("is affordable where the watched are as often right as before the run", () => {
    const last = sighting(3, [0, 0, 0], [1, 1, 1, 0]);
    const oneLostOneGained = sighting(2, [0, 0, 5], [0, 1, 1, 1]);
    expect(isAffordable(BEFORE, last, oneLostOneGained)).toBe(true);
    expect(isAffordable(BEFORE, last, sighting(2, [0, 0, 5], [0, 1, 1, 0]))).toBe(false);
    expect(isAffordable(BEFORE, last, sighting(3, [0, 0, 0], [0, 1, 1, 1]))).toBe(false);
  });
});
