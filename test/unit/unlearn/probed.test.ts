import { describe, expect, it } from "vitest";
import { GraphBuilder } from "../../../src/model/builder.js";
import { initialize } from "../../../src/model/initialize.js";
import { loadNetwork, type Model, readWeights } from "../../../src/model/model.js";
import type { ProbedSelection, UnlearnOverrides } from "../../../src/unlearn/config.js";
import { maskWeights } from "../../../src/unlearn/mask.js";
import { judgedBesideProbe, probeIndices } from "../../../src/unlearn/masking/round-probe.js";
import type { MethodContext } from "../../../src/unlearn/method.js";
import { method } from "../../../src/unlearn/methods/fisher-masking.js";
import { drawSamples, without } from "../../../src/unlearn/sampling.js";
import { type UnlearnRequest, type UnlearnResult, unlearn } from "../../../src/unlearn/unlearn.js";
import { expectError } from "../io/support.js";
import {
  bits,
  expectStopsAt,
  fisherOf,
  requestOf,
  splitByClass,
  type Task,
  taskOf,
} from "./support.js";

const SELECTION: ProbedSelection = {
  kind: "probed",
  ratioPerRound: 0.05,
  maxRatio: 0.6,
  watchSamples: 40,
  occlusion: 0.25,
  lostWeight: 1,
  probeSamples: 15,
};
const HEAD = ["fc.weight", "fc.bias"];
/** conv1 4 × 2 × 3 × 3 and fc1 8 × 144: the head is none. */
const CANDIDATES = 1224;

let trained: Promise<Task> | undefined;

/** Eight features before the head: few enough to lose a class. On the flattened maps of `tinyTask` a probe finds anything. */
function makeTask(): Promise<Task> {
  const b = new GraphBuilder("narrow");
  const input = b.input("input", [6, 6, 2]);
  const maps = b.relu("relu1", b.conv2d("conv1", input, { out: 4, kernel: 3, padding: 1 }));
  const hidden = b.linear("fc1", b.flatten("flatten", maps), { out: 8 });
  const features = b.relu("relu2", hidden, { output: "features" });
  const graph = b.build([b.linear("fc", features, { out: 3, output: "logits" }), "features"]);
  const fresh: Model = {
    arch: "narrow",
    graph,
    features: "features",
    weights: initialize(graph, 1),
    file: null,
    sha256: null,
  };
  return taskOf(fresh);
}

function narrowTask(): Promise<Task> {
  trained ??= makeTask();
  return trained;
}

function overridesOf(
  selection: Partial<ProbedSelection> = {},
  others: UnlearnOverrides = {},
): UnlearnOverrides {
  return {
    target: { accuracy: 0.4, samples: null },
    excludeHead: true,
    ...others,
    fisher: { temperature: 4, ...others.fisher },
    selection: { ...SELECTION, ...selection },
  };
}

async function run(
  selection: Partial<ProbedSelection> = {},
  others: UnlearnOverrides = {},
  change: (request: UnlearnRequest, task: Task) => Partial<UnlearnRequest> = () => ({}),
): Promise<UnlearnResult> {
  const task = await narrowTask();
  const request = requestOf(task, overridesOf(selection, others));
  return unlearn({ ...request, ...change(request, task) });
}

/** The original with its masks and nothing else: the head, too, is the network's own, bit for bit. */
async function expectOnlyMasked({ weights, masks }: UnlearnResult): Promise<void> {
  const { model } = await narrowTask();
  expect(bits(weights)).toEqual(bits(maskWeights(model.weights, masks ?? new Map())));
  for (const name of HEAD) expect(masks?.has(name)).toBe(false);
}

describe("probed selection", () => {
  it("masks until the probe of the round no longer finds the forget set, and leaves the head as it was", async () => {
    const result = await run();
    const { metrics } = result;
    const probes = metrics.rounds.map(({ probe }) => probe?.forget ?? Number.NaN);
    expect(probes[0]).toBeGreaterThan(0.9);
    expect(probes.at(-1)).toBeLessThanOrEqual(0.4);
    for (const found of probes.slice(0, -1)) expect(found).toBeGreaterThan(0.4);
    expect(metrics.rounds.map(({ round }) => round)).toEqual([...probes.keys()]);
    expect(metrics.rounds[0]).toMatchObject({ units: 0, ratio: 0, lost: 0, gained: 0 });
    expect(metrics.rounds.at(-1)?.units).toBe(metrics.masked.units);
    // Half of the forget set is left for the probe.
    expect(metrics.watch).toEqual({ judged: 15, watched: 40, occlusion: 0.25 });
    expect(metrics.warnings.join()).not.toContain("target");
    expect(metrics.maskedOnly).toBeNull();
    await expectOnlyMasked(result);
  });

  it("takes the target as a share of what the probe found at first, where that is asked for", async () => {
    const target = { accuracy: 0.5, samples: null };
    const { metrics } = await run({ relativeTarget: true, maxRatio: 0.12 }, { target });
    const probes = metrics.rounds.map(({ probe }) => probe?.forget ?? Number.NaN);
    const goal = 0.5 * (probes[0] as number);
    for (const found of probes.slice(0, -1)) expect(found).toBeGreaterThan(goal);
    const warning = metrics.warnings.find((text) => text.includes("target"));
    if ((probes.at(-1) as number) <= goal) expect(warning).toBeUndefined();
    else expect(warning).toContain(`at most ${Number((100 * goal).toFixed(2))} % recognised`);
    // A share of nothing is reached by nothing.
    const none = await run(
      { relativeTarget: true, maxRatio: 0.12 },
      { target: { ...target, accuracy: 0 } },
    );
    expect(none.metrics.warnings.join()).toContain("at most 0 % recognised");
  });

  it("leaves everything as it was where the target holds before the first round", async () => {
    const result = await run({}, { target: { accuracy: 1, samples: null } });
    expect(result.metrics.rounds.length).toBe(1);
    expect(result.metrics.masked.units).toBe(0);
    expect(result.metrics.warnings.join()).not.toContain("target");
    await expectOnlyMasked(result);
  });

  it("masks the most allowed and not a unit more, and says what the probe still finds", async () => {
    const result = await run({ maxRatio: 0.09 }, { target: { accuracy: 0, samples: null } });
    const most = Math.floor(0.09 * CANDIDATES);
    expect(result.metrics.rounds.map(({ units }) => units)).toEqual([0, 61, most]);
    expect(result.metrics.masked).toMatchObject({ units: most, total: CANDIDATES });
    const found = (100 * (result.metrics.rounds.at(-1)?.probe?.forget ?? Number.NaN)).toFixed(1);
    const warning = result.metrics.warnings.find((text) => text.includes("target"));
    expect(warning).toMatch(/By the linear probe: .* \(the most allowed\)/);
    expect(warning).toContain(`recognised in ${found} %`);
    await expectOnlyMasked(result);
  });

  it("stops where no unit is left whose removal helps, and masks none that does not", async () => {
    const target = { accuracy: 0, samples: null };
    const result = await run({ maxRatio: 1, ratioPerRound: 1 }, { target });
    const { metrics } = result;
    expect(metrics.rounds[1]?.units).toBeGreaterThan(0);
    expect(metrics.rounds[1]?.units).toBeLessThan(CANDIDATES);
    await expectOnlyMasked(result);
  });

  it("says so where nothing is recognised any more and a loss is asked for besides", async () => {
    const target = { accuracy: 0.5, loss: 1e6, samples: null };
    const { metrics } = await run({ maxRatio: 1, ratioPerRound: 0.2, lostWeight: 0 }, { target });
    expect(metrics.warnings.join()).toMatch(
      /By the linear probe: .*(none of the judged|no unit was left|the most allowed)/,
    );
    expect(metrics.warnings.join()).toContain("1000000 nats");
  });

  it.each(["kernel", "filter"] as const)("works for the unit %s", async (unit) => {
    const result = await run({ ratioPerRound: 0.1 }, { unit });
    expect(result.metrics.masked.units).toBeGreaterThan(0);
    const { rounds } = result.metrics;
    expect(rounds.at(-1)?.probe?.forget).toBeLessThan(rounds[0]?.probe?.forget ?? 0);
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

  it("follows what the probe lost, at its weight", async () => {
    const watched = { maxRatio: 0.5, watchSamples: 70 };
    const target = { accuracy: 0, samples: null };
    const stages: string[] = [];
    const reporter = {
      stage: (name: string, total: number | null) => stages.push(`${name} ${total}`),
      progress: () => undefined,
      message: () => undefined,
    };
    // Two thirds of a class are forgotten and the last third is to stay: that is what is lost.
    const torn = (_: UnlearnRequest, { train: data }: Task): Partial<UnlearnRequest> => {
      const { forget, remain } = splitByClass(data, [0]);
      const rest = Int32Array.from([...forget.slice(20), ...remain]).sort();
      const split = { forget: forget.slice(0, 20), remain: rest, description: "a part" };
      return { split, forgetClasses: [], reporter };
    };
    const weighed = await run({ ...watched, lostWeight: 5 }, { target }, torn);
    expect(stages.join()).toContain("Fisher, lost samples");
    const free = await run({ ...watched, lostWeight: 0 }, { target }, torn);
    expect(bits(weighed.weights)).not.toEqual(bits(free.weights));
    // What is stored is a Fisher of forget samples alone.
    const { forget } = splitByClass((await narrowTask()).train, [0]);
    const ids = [...(weighed.fishers.forget?.ids ?? [])];
    expect(ids.length).toBeGreaterThan(0);
    expect(ids.every((id) => forget.includes(id))).toBe(true);
    expect(weighed.fishers.forget?.terms).toBe(ids.length);
  });

  it("stops at a signal in each of its stages, with the network's own head in place", async () => {
    const places = [
      "Check the target",
      "Probe of the round",
      "Fisher, forget set",
      "Fisher, remain set",
      "Score and select",
    ];
    const { model } = await narrowTask();
    await expectStopsAt(places, async (stop) => {
      const context = await contextOf(stop);
      using network = context.network;
      try {
        await method.run(context);
      } finally {
        const left = await network.getParameters(HEAD);
        for (const name of HEAD) expect(left.get(name)).toEqual(model.weights.get(name));
      }
    });
  });
});

describe("what probed selection and a new head refuse before any work", () => {
  const refused = async (
    overrides: UnlearnOverrides,
    change: (request: UnlearnRequest, task: Task) => Partial<UnlearnRequest>,
    ...parts: string[]
  ) => {
    const task = await narrowTask();
    const request = requestOf(task, overrides);
    const stages: string[] = [];
    const reporter = {
      stage: (name: string) => stages.push(name),
      progress: () => undefined,
      message: () => undefined,
    };
    const whole = { ...request, reporter, ...change(request, task) };
    await expectError(() => unlearn(whole), "ERR_FM_CONFIG", ...parts);
    expect(stages).toEqual([]);
  };

  it("a network whose head is not one linear layer", async () => {
    const odd = (_: UnlearnRequest, task: Task): Partial<UnlearnRequest> => {
      const b = new GraphBuilder("odd");
      const x = b.flatten(
        "flatten",
        b.relu("relu1", b.conv2d("conv1", b.input("input", [6, 6, 2]), { out: 4, kernel: 3 })),
        { output: "features" },
      );
      const graph = b.build([b.relu("relu2", b.linear("fc", x, { out: 3 })), "features"]);
      return { model: { ...task.model, graph, weights: initialize(graph, 1) } };
    };
    await refused(overridesOf(), odd, "head of odd", "relu");
    await refused({ refitHead: 0.5 }, odd, "head of odd", "relu");
  });

  it("a head that may be masked", async () => {
    await refused(overridesOf({}, { excludeHead: false }), () => ({}), "excludeHead", "fc.weight");
    await refused({ refitHead: 0.5 }, () => ({}), "excludeHead", "refitHead");
    // By name it is no candidate either.
    const result = await run({}, { excludeHead: false, exclude: ["fc.*"], refitHead: 0.5 });
    expect(result.metrics.masked.total).toBe(CANDIDATES);
  });

  it("a stored Fisher: it went through another head", async () => {
    const task = await narrowTask();
    const { forget, remain } = splitByClass(task.train, [0]);
    const stores = {
      forget: await fisherOf(task, forget, { gradientSums: true }),
      remain: await fisherOf(task, remain),
    };
    for (const name of ["forget", "remain"] as const) {
      const stored = { [name]: stores[name] };
      await refused(overridesOf(), () => ({ stored }), "stored", `the ${name} set`);
    }
    const none = { forget: null, remain: null };
    expect((await run({ maxRatio: 0 }, {}, () => ({ stored: none }))).metrics.masked.units).toBe(0);
  });
});

async function contextOf(
  change: Partial<MethodContext> = {},
  overrides = overridesOf(),
): Promise<MethodContext> {
  const task = await narrowTask();
  const request = requestOf(task, overrides);
  return {
    model: task.model,
    network: await loadNetwork(task.model, { threads: 1 }),
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
}

describe("the probe of a round", () => {
  const judgedOf = (context: MethodContext) =>
    drawSamples(without(context.forget, context.reserved), judgedBesideProbe(context), 0, 0);

  it("never sees what is judged or reserved, and has the same number of each class, others each round", async () => {
    const { train } = await narrowTask();
    const { forget, remain } = splitByClass(train, [0]);
    const reserved = new Set([...forget.slice(0, 10), ...remain.slice(0, 20)]);
    const context = await contextOf({ reserved });
    using _ = context.network;
    const judged = judgedOf(context);
    expect(judged.length).toBe(10);
    const drawn = [0, 1].map((round) => probeIndices(context, judged, 5, round));
    expect(drawn[0]).not.toEqual(drawn[1]);
    for (const indices of drawn) {
      expect([...indices].filter((i) => reserved.has(i) || judged.includes(i))).toEqual([]);
      expect(indices).toEqual(Int32Array.from(new Set(indices)).sort());
      const labels = Array.from(indices, (i) => train.labels[i]);
      for (const label of [0, 1, 2]) expect(labels.filter((l) => l === label).length).toBe(5);
    }
    // 10 forget samples are left beside the judged ones: they set the number for all.
    expect(probeIndices(context, judged, 100, 0).length).toBe(30);
  });

  it("sees judged samples only where the forget set has no other", async () => {
    const { train } = await narrowTask();
    const { forget, remain } = splitByClass(train, [0]);
    const context = await contextOf({ forget: forget.slice(0, 1) });
    using _ = context.network;
    const judged = judgedOf(context);
    expect(judged).toEqual(forget.slice(0, 1));
    const indices = probeIndices(context, judged, 5, 0);
    expect([...indices].filter((i) => !remain.includes(i))).toEqual([...judged]);
  });

  it("judges the target's number where half of the forget set is more", async () => {
    const context = await contextOf({}, overridesOf({}, { target: { accuracy: 0.4, samples: 7 } }));
    using _ = context.network;
    expect(judgedBesideProbe(context)).toBe(7);
  });

  it("like all of the run, sees nothing of what is reserved: what is in these changes nothing", async () => {
    const { train, model } = await narrowTask();
    const { forget, remain } = splitByClass(train, [0]);
    const reserved = new Set([...forget.slice(0, 10), ...remain.slice(0, 20)]);
    const images = train.images.slice();
    const bytes = images.length / train.size;
    for (const index of reserved) images.fill(0, index * bytes, (index + 1) * bytes);
    const of = async (change: Partial<MethodContext>) => {
      const context = await contextOf(change);
      using network = context.network;
      const { rounds } = await method.run(context);
      return { rounds, weights: bits(await readWeights(model.graph, network)) };
    };
    const as = await of({ reserved });
    expect(await of({ reserved, train: { ...train, images } })).toEqual(as);
    expect(await of({ train: { ...train, images } })).not.toEqual(as);
  });

  it("is measured on the forget set alone where nothing is watched", async () => {
    const { remain } = splitByClass((await narrowTask()).train, [0]);
    const context = await contextOf({ remain: remain.slice(0, 1) });
    using _ = context.network;
    const { rounds, watch } = await method.run(context);
    expect(watch?.watched).toBe(0);
    for (const { probe, lost } of rounds) {
      expect(probe?.forget).toBeGreaterThanOrEqual(0);
      expect([probe?.remain, lost]).toEqual([null, null]);
    }
  });
});

describe("a new head", () => {
  const fineTune = {
    epochs: 2,
    learningRate: 0.01,
    batchSize: 15,
    optimizer: "sgd" as const,
    momentum: 0.9,
    weightDecay: 0,
    schedule: { kind: "constant" as const },
    crop: 0,
    flip: false,
    samples: null,
  };

  it("changes the head's two tensors and nothing else, and is not what the masked network is measured by", async () => {
    const [kept, refitted] = [await run(), await run({}, { refitHead: 0.5 })];
    const names = Object.entries(bits(refitted.weights))
      .filter(([name, values]) => bits(kept.weights)[name] !== values)
      .map(([name]) => name);
    expect(names.sort()).toEqual([...HEAD].sort());
    expect(refitted.masks).toEqual(kept.masks);
    expect(refitted.metrics.rounds).toEqual(kept.metrics.rounds);
    expect(refitted.metrics.maskedOnly).toEqual(kept.metrics.after);
    expect(refitted.metrics.fineTuning).toEqual([]);
    // It was fitted without the class.
    expect(refitted.metrics.after.forget).toEqual({ train: 0, test: 0 });
    expect(refitted.metrics.after.remain.train).toBeGreaterThan(0.9);
  });

  it("goes with every selection", async () => {
    const task = await narrowTask();
    const request = requestOf(task, { excludeHead: true, refitHead: 1 });
    const { weights, masks, metrics } = await unlearn(request);
    expect(metrics.masked.units).toBe(61);
    const masked = bits(maskWeights(task.model.weights, masks ?? new Map()));
    const changed = Object.entries(bits(weights)).filter(([name, v]) => masked[name] !== v);
    expect(changed.map(([name]) => name).sort()).toEqual([...HEAD].sort());
  });

  it("comes before fine-tuning, in which masks are held", async () => {
    const { weights, masks, metrics } = await run({}, { refitHead: 0.5, fineTune, hold: true });
    expect(metrics.fineTuning.length).toBe(2);
    expect(metrics.masked.units).toBeGreaterThan(0);
    const held = maskWeights(weights, masks ?? new Map());
    expect(bits(weights)).toEqual(bits(held));
    const before = metrics.fineTuning[0]?.accuracy ?? 0;
    expect(before).toBeGreaterThan(0.9);
    const order = metrics.stages.map(({ name }) => name);
    expect(order.indexOf("Refit the head")).toBeGreaterThan(order.indexOf("Probe of the round"));
    expect(order.indexOf("Fine-tune")).toBeGreaterThan(order.indexOf("Refit the head"));
  });

  it("stops at a signal", async () => {
    const controller = new AbortController();
    const reporter = {
      stage: (name: string) => {
        if (name === "Refit the head") controller.abort();
      },
      progress: () => undefined,
      message: () => undefined,
    };
    const { signal } = controller;
    const stopped = () => run({ maxRatio: 0 }, { refitHead: 0.5 }, () => ({ reporter, signal }));
    await expectError(stopped, "ERR_FM_ABORTED");
  });
});
