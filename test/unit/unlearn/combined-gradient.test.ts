import { describe, expect, it } from "vitest";
import type { FisherStore } from "../../../src/unlearn/fisher-store.js";
import { combinedStore } from "../../../src/unlearn/masking/combined-gradient.js";
import { expectError } from "../io/support.js";
import { fisherOf, splitByClass, tinyTask } from "./support.js";

async function stores(): Promise<{ forget: FisherStore; lost: FisherStore }> {
  const task = await tinyTask();
  const { forget, remain } = splitByClass(task.train, [0]);
  const gradients = { gradientSums: true, temperature: 4 };
  return {
    forget: await fisherOf(task, forget.slice(0, 4), gradients),
    lost: await fisherOf(task, remain.slice(0, 3), gradients),
  };
}

const at = (sums: FisherStore["gradients"], i: number): number =>
  sums?.get("conv2.weight")?.[i] as number;

describe("the gradient of a guarded step", () => {
  it("is the mean over all judged, the recognised speaking, less the lost at their weight", async () => {
    const { forget, lost } = await stores();
    const parts = { forget, recognised: 12, judged: 20, lost, lostCount: 3, weightOfLost: 2.5 };
    const combined = combinedStore(parts);
    expect(combined.terms).toBe(20);
    expect(combined.ids).toEqual(forget.ids);
    for (const i of [0, 17, 100, 215]) {
      const mean = at(combined.gradients, i) / combined.terms;
      const wanted = ((12 / 4) * at(forget.gradients, i) - 2.5 * at(lost.gradients, i)) / 20;
      expect(mean).toBeCloseTo(wanted, 6);
      expect(at(combined.squares, i)).toBeCloseTo(3 * at(forget.squares, i), 5);
    }
    const moved = [...(combined.gradients?.get("conv2.weight") ?? [])].some(
      (value, i) => Math.abs(value - 3 * at(forget.gradients, i)) > 1e-5,
    );
    expect(moved).toBe(true);
  });

  it("is the recognised samples' alone where nothing is lost", async () => {
    const { forget } = await stores();
    const parts = { recognised: 4, judged: 8, lost: null, lostCount: 0, weightOfLost: 2 };
    const combined = combinedStore({ forget, ...parts });
    expect(combined.gradients).toEqual(forget.gradients);
  });

  it("asks for summed gradients", async () => {
    const { forget } = await stores();
    const parts = { recognised: 4, judged: 8, lost: null, lostCount: 0, weightOfLost: 2 };
    const refused = () => combinedStore({ forget: { ...forget, gradients: null }, ...parts });
    await expectError(refused, "ERR_FM_ARGUMENT", "gradients", "guarded");
  });
});
