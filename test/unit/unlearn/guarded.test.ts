import { describe, expect, it } from "vitest";
import type { RunMetrics } from "../../../src/evaluate/run-metrics.js";
import { loadNetwork, readWeights } from "../../../src/model/model.js";
import type { GuardedSelection, UnlearnOverrides } from "../../../src/unlearn/config.js";
import { maskWeights } from "../../../src/unlearn/mask.js";
import type { MethodContext } from "../../../src/unlearn/method.js";
import { method } from "../../../src/unlearn/methods/fisher-masking.js";
import { type UnlearnRequest, type UnlearnResult, unlearn } from "../../../src/unlearn/unlearn.js";
import { expectError } from "../io/support.js";
import {
  bits,
  expectStopsAt,
  fisherOf,
  requestOf,
  splitByClass,
  type Task,
  tinyTask,
} from "./support.js";

const SELECTION: GuardedSelection = {
  kind: "guarded",
  ratioPerRound: 0.02,
  maxRatio: 0.5,
  watchSamples: 40,
  occlusion: 0.25,
  lostWeight: 1,
};

function overridesOf(
  selection: Partial<GuardedSelection> = {},
  others: UnlearnOverrides = {},
): UnlearnOverrides {
  return {
    target: { accuracy: 0.1, samples: null },
    ...others,
    selection: { ...SELECTION, ...selection },
  };
}

async function run(
  selection: Partial<GuardedSelection> = {},
  others: UnlearnOverrides = {},
  change: (request: UnlearnRequest, task: Task) => Partial<UnlearnRequest> = () => ({}),
): Promise<UnlearnResult> {
  const task = await tinyTask();
  const request = requestOf(task, overridesOf(selection, others));
  return unlearn({ ...request, ...change(request, task) });
}

type Round = RunMetrics["rounds"][number];
const kept = (metrics: RunMetrics) => metrics.rounds.filter(({ rejected }) => !rejected);
const undone = (metrics: RunMetrics) => metrics.rounds.filter(({ rejected }) => rejected);

async function expectOnlyMasked({ weights, masks }: UnlearnResult): Promise<void> {
  const { model } = await tinyTask();
  expect(bits(weights)).toEqual(bits(maskWeights(model.weights, masks ?? new Map())));
}

/** Two thirds of a class are forgotten and the last third is to stay: what helps the one harms the other. */
function torn(_: UnlearnRequest, { train }: Task): Partial<UnlearnRequest> {
  const { forget, remain } = splitByClass(train, [0]);
  const rest = Int32Array.from([...forget.slice(20), ...remain]).sort();
  const split = { forget: forget.slice(0, 20), remain: rest, description: "a part of a class" };
  return { split, forgetClasses: [] };
}
const SMALL_STEPS: Partial<GuardedSelection> = { ratioPerRound: 0.005, watchSamples: 60 };
const TO_THE_END: UnlearnOverrides = { target: { accuracy: 0, samples: null } };

describe("guarded selection", () => {
  it("forgets, and records every step", async () => {
    const result = await run();
    const { metrics } = result;
    expect(metrics.before.forget.train).toBe(1);
    expect(metrics.after.forget.train).toBeLessThanOrEqual(0.1);
    expect(metrics.after.remain.train).toBeGreaterThan(0.9);
    expect(metrics.watch).toEqual({ judged: 30, watched: 40, occlusion: 0.25 });
    expect(metrics.rounds[0]).toMatchObject({ round: 0, units: 0, lost: 0, gained: 0 });
    const last = kept(metrics).at(-1);
    expect(last?.units).toBe(metrics.masked.units);
    expect(last?.forgetAccuracy).toBeLessThanOrEqual(0.1);
    expect(metrics.warnings.join()).not.toContain("target");
    await expectOnlyMasked(result);
  });

  it("keeps a step only where what is recognised and lost gets less, in numbers of the whole sets", async () => {
    const { metrics } = await run(SMALL_STEPS, TO_THE_END, torn);
    const [judged, watched] = [20, 50];
    expect(metrics.watch).toMatchObject({ judged, watched });
    // 70 samples to keep of which 50 are watched, all 20 to forget judged.
    const cost = (round: Round) =>
      judged * round.forgetAccuracy + (70 / watched) * watched * (round.lost as number);
    let last = metrics.rounds[0] as Round;
    for (const round of metrics.rounds.slice(1)) {
      const change = cost(round) - cost(last);
      if (Math.abs(change) > 1e-9) expect(change < 0).toBe(!round.rejected);
      if (!round.rejected) last = round;
    }
    expect(cost(last)).toBeLessThan(judged);
    expect(last.lost).toBeGreaterThan(0);
    expect(undone(metrics).length).toBeGreaterThan(0);
  });

  it("follows only what is still recognised, and what was lost", async () => {
    const stages: string[] = [];
    const reporter = {
      stage: (name: string, total: number | null) => stages.push(`${name} ${total}`),
      progress: () => undefined,
      message: () => undefined,
    };
    const { metrics, fishers } = await run(SMALL_STEPS, TO_THE_END, (request, task) => ({
      ...torn(request, task),
      reporter,
    }));
    // Each round looks at what the network recognised, and had lost, when the round began.
    const perRound = new Map(kept(metrics).map((round) => [round.round, round]));
    let last = metrics.rounds[0] as Round;
    const wanted: string[] = [];
    for (let round = 1; round <= (metrics.rounds.at(-1) as Round).round; round++) {
      wanted.push(`Fisher, forget set ${Math.round(20 * last.forgetAccuracy)}`);
      const lost = Math.round(50 * (last.lost as number));
      if (lost > 0) wanted.push(`Fisher, lost samples ${lost}`);
      last = perRound.get(round) ?? last;
    }
    expect(stages.filter((name) => /Fisher, (forget|lost)/.test(name))).toEqual(wanted);
    expect(wanted.join()).toContain("lost");
    expect(fishers.forget?.ids.length).toBe(Math.round(20 * last.forgetAccuracy));
  });

  it("undoes a step bit by bit, tries half of it, and in the end says what it would have cost", async () => {
    const result = await run(SMALL_STEPS, TO_THE_END, torn);
    const { metrics } = result;
    // Trials of one round begin at the same mask: what each adds is half of what the one before it added.
    const trials = metrics.rounds.map((trial, i) => {
      const accepted = metrics.rounds.slice(0, i).filter(({ rejected }) => rejected !== true);
      return { ...trial, added: trial.units - (accepted.at(-1)?.units ?? 0) };
    });
    const halved = trials.filter((trial, i) => trials[i - 1]?.round === trial.round);
    expect(halved.length).toBeGreaterThan(0);
    for (const trial of halved) {
      const previous = trials[trials.indexOf(trial) - 1]?.added ?? Number.NaN;
      expect(trial.added).toBe(Math.floor(previous / 2));
    }
    await expectOnlyMasked(result);
    const warning = metrics.warnings.find((text) => text.includes("target"));
    expect(warning).toMatch(/3 rounds in a row were undone/);
    expect(warning).toMatch(/would have cost more remain samples than it brought/);
    expect(warning).toMatch(/\d+ units more, would have left \d+ instead of \d+ of 20 judged/);
    expect(warning).toMatch(/\d+ instead of \d+ of 50 watched remain samples lost/);
    expect(metrics.after.forget.train).toBe(kept(metrics).at(-1)?.forgetAccuracy);
  });

  it("goes on until the class is improbable too, where recognisedAt asks for it", async () => {
    const atTheAnswer = await run();
    const { metrics } = await run({ recognisedAt: 0.02 });
    expect(metrics.masked.units).toBeGreaterThan(atTheAnswer.metrics.masked.units);
    const last = kept(metrics).at(-1) as Round;
    expect(last.forgetAccuracy).toBeLessThanOrEqual(0.1);
    expect(last.forgetLoss).toBeGreaterThan((kept(atTheAnswer.metrics).at(-1) as Round).forgetLoss);
    // Recognised by this measure are at least those that are right.
    expect(metrics.after.forget.train).toBeLessThanOrEqual(last.forgetAccuracy);
  });

  it("masks the most allowed and not a unit more, and says so", async () => {
    const result = await run(
      { maxRatio: 0.015, ratioPerRound: 0.01, lostWeight: 0 },
      { target: { accuracy: 0, samples: null } },
    );
    expect(result.metrics.masked.units).toBe(14);
    for (const { units } of result.metrics.rounds) expect(units).toBeLessThanOrEqual(14);
    expect(result.metrics.warnings.join()).toMatch(
      /target was not reached: with 1\.50 % .* \(the most allowed\)/,
    );
    await expectOnlyMasked(result);
  });

  it("masks nothing where all is forgotten already", async () => {
    const { metrics, weights } = await run({}, { target: { accuracy: 1, samples: null } });
    expect(metrics.masked.units).toBe(0);
    expect(metrics.rounds.length).toBe(1);
    expect(metrics.warnings.join()).not.toContain("target");
    expect(bits(weights)).toEqual(bits((await tinyTask()).model.weights));
  });

  it("stops where nothing is recognised any more and a loss is asked for besides", async () => {
    const { metrics } = await run(
      { lostWeight: 0 },
      { target: { accuracy: 0, loss: 1e6, samples: null } },
    );
    expect(metrics.after.forget.train).toBe(0);
    expect(metrics.warnings.join()).toMatch(/none of the judged forget samples is recognised/);
    expect(metrics.warnings.join()).toContain("1000000 nats");
  });

  it.each(["kernel", "filter"] as const)("works for the unit %s", async (unit) => {
    const result = await run({ ratioPerRound: 0.1 }, { unit });
    expect(result.metrics.masked.units).toBeGreaterThan(0);
    expect(result.metrics.after.forget.train).toBeLessThan(1);
    await expectOnlyMasked(result);
  });

  it("is the same for the same seed", async () => {
    const fisher = { forgetSamples: 10, remainSamples: 20 };
    const of = (seed: number) => run({ watchSamples: 20 }, { fisher, seed });
    const [a, b, c] = [await of(2), await of(2), await of(3)];
    expect(bits(b.weights)).toEqual(bits(a.weights));
    expect(b.metrics.rounds).toEqual(a.metrics.rounds);
    expect(bits(c.weights)).not.toEqual(bits(a.weights));
  });

  it("takes stored Fishers in the first round, and asks for gradients in the forget set's", async () => {
    const task = await tinyTask();
    const { forget, remain } = splitByClass(task.train, [0]);
    const gradients = await fisherOf(task, forget, { gradientSums: true });
    const stored = { forget: gradients, remain: await fisherOf(task, remain) };
    const stages: string[] = [];
    const reporter = {
      stage: (name: string) => stages.push(name),
      progress: () => undefined,
      message: () => undefined,
    };
    const result = await run({}, {}, () => ({ stored, reporter }));
    const fresh = await run();
    const first = stages.indexOf("Score and select");
    expect(stages.slice(0, first).filter((name) => name.startsWith("Fisher"))).toEqual([]);
    // All samples of both sets either way: the same network.
    expect(bits(result.weights)).toEqual(bits(fresh.weights));
    const bare = { ...stored, forget: { ...gradients, gradients: null } };
    const refused = () => run({}, {}, () => ({ stored: bare }));
    await expectError(refused, "ERR_FM_ARGUMENT", "gradients");
  });

  it("stops at a signal in each of its stages, and between rounds", async () => {
    const places = [
      "Check the target",
      "Fisher, forget set",
      "Fisher, remain set",
      "Score and select",
      "Fisher, lost samples",
      "round 2",
    ];
    await expectStopsAt(places, (stop) =>
      run(SMALL_STEPS, TO_THE_END, (request, task) => ({ ...torn(request, task), ...stop })),
    );
  });
});

describe("the samples of guarded selection", () => {
  /** Runs the method alone, so that the reserved samples are the test's. */
  async function masked(change: Partial<MethodContext> = {}, selection = SELECTION) {
    const task = await tinyTask();
    const request = requestOf(task, overridesOf(selection));
    using network = await loadNetwork(task.model, { threads: 1 });
    const context: MethodContext = {
      model: task.model,
      network,
      train: task.train,
      trainDigest: task.digest,
      forget: request.split.forget,
      remain: request.split.remain,
      reserved: new Set(),
      normalization: request.normalization,
      config: request.config,
      stored: { forget: null, remain: null },
      reporter: { stage: () => undefined, progress: () => undefined, message: () => undefined },
      ...change,
    };
    const outcome = await method.run(context);
    return { outcome, weights: await readWeights(task.model.graph, network) };
  }

  it("hold none that is reserved: what is in these changes nothing", async () => {
    const task = await tinyTask();
    const { forget, remain } = splitByClass(task.train, [0]);
    const reserved = new Set([...forget.slice(0, 10), ...remain.slice(0, 20)]);
    const images = task.train.images.slice();
    const bytes = images.length / task.train.size;
    for (const index of reserved) images.fill(0, index * bytes, (index + 1) * bytes);
    const selection = { ...SELECTION, watchSamples: null };
    const as = await masked({ reserved }, selection);
    const blank = await masked({ reserved, train: { ...task.train, images } }, selection);
    expect(as.outcome.watch).toEqual({ judged: 20, watched: 40, occlusion: 0.25 });
    expect(bits(blank.weights)).toEqual(bits(as.weights));
    expect(blank.outcome.rounds).toEqual(as.outcome.rounds);
    const { fishers } = as.outcome;
    for (const store of [fishers.forget, fishers.remain]) {
      expect(store?.ids.length).toBeGreaterThan(0);
      expect(store?.ids.filter((id) => reserved.has(id))).toEqual(new Int32Array());
    }
    const free = await masked({ train: { ...task.train, images } }, selection);
    expect(bits(free.weights)).not.toEqual(bits(as.weights));
  });

  it("may leave nothing to watch: then nothing is lost", async () => {
    const { remain } = splitByClass((await tinyTask()).train, [0]);
    const { outcome } = await masked({ remain: remain.slice(0, 1) });
    expect(outcome.watch?.watched).toBe(0);
    for (const { lost, gained, remainAccuracy } of outcome.rounds) {
      expect([lost, gained, remainAccuracy]).toEqual([null, null, null]);
    }
    expect(outcome.rounds.length).toBeGreaterThan(1);
  });
});
