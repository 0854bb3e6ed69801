// One run of unlearning, measured on the test set alone. `unlearn()` measures the whole training set before and after as well;
// over a table of many runs of one network that would be most of the time, and "before" is the same each time.
import { loadavg } from "node:os";
import {
  countByTensor,
  evaluate,
  linearProbe,
  loadNetwork,
  methods,
  VERSION,
  readWeights,
  subset,
  wholeView,
} from "fishermask";
import { seededOrder, targetReached, worstRemaining } from "./lib.mjs";

const BATCH = 128;
const PROBE_PER_CLASS = 300;

/** Of each class the first 300 in an order of the seed: what the probe is fitted on and no Fisher sees. */
export function probeSamples(train, seed) {
  const taken = train.classes.map(() => 0);
  const chosen = seededOrder(train.size, "probe", seed).filter((index) => {
    const label = train.labels[index];
    return taken[label]++ < PROBE_PER_CLASS;
  });
  return Int32Array.from(chosen).sort();
}

/** Accuracies by class on the test set, of the network and of a linear probe on its features. */
export async function measure(network, { model, train, test, normalization }, probe) {
  const options = { batchSize: BATCH, normalization, keep: model.features };
  const tested = await evaluate(network, wholeView(test), options);
  const fitted = await evaluate(network, subset(train, probe), options);
  const { perClass } = await linearProbe(
    { features: fitted.features, labels: probe.map((index) => train.labels[index]) },
    { features: tested.features, labels: test.labels },
    { classes: test.classes.length, threads: network.threads },
  );
  return { perClass: tested.perClass, probePerClass: perClass };
}

function mean(values) {
  return values.length === 0 ? null : values.reduce((sum, value) => sum + value, 0) / values.length;
}

function pooled(perClass, wanted) {
  const counts = perClass.filter((_, index) => wanted(index));
  const total = counts.reduce((sum, count) => sum + count.total, 0);
  return total === 0 ? null : counts.reduce((sum, count) => sum + count.correct, 0) / total;
}

/** In the form of a run's snapshot, as far as it was measured. */
export function snapshotOf({ perClass, probePerClass }, forgotten) {
  const isForgotten = (index) => forgotten.includes(index);
  const isKept = (index) => !isForgotten(index);
  return {
    forgetTest: pooled(perClass, isForgotten),
    remainTest: pooled(perClass, isKept),
    perClassTest: perClass.map(({ correct, total }) => (total === 0 ? null : correct / total)),
    probe: {
      forget: mean(probePerClass.filter((_, index) => isForgotten(index))),
      remain: mean(probePerClass.filter((_, index) => isKept(index))),
    },
  };
}

const known = new Map();

async function measuredBefore(network, request, probe, key) {
  if (!known.has(key)) known.set(key, await measure(network, request, probe));
  return known.get(key);
}

/** Runs the configured method on a fresh copy of the network; `run` of a cell. */
export async function measuredOnTest(request, wanted) {
  const { model, train, test, trainDigest, split, forgetClasses, normalization, threads } = request;
  const { config } = wanted;
  const network = await loadNetwork(model, { threads });
  try {
    const probe = probeSamples(train, config.seed);
    const key = `${model.sha256} ${config.seed}`;
    const before = snapshotOf(await measuredBefore(network, request, probe, key), forgetClasses);
    const started = performance.now();
    const { masks, rounds, watch, fineTuning, warnings } = await methodOf(config).run({
      model,
      network,
      train,
      trainDigest,
      forget: split.forget,
      remain: split.remain,
      reserved: new Set(probe),
      normalization,
      config,
      stored: { forget: null, remain: null },
      reporter: request.reporter,
    });
    const seconds = (performance.now() - started) / 1000;
    const after = snapshotOf(await measure(network, request, probe), forgetClasses);
    const masked = { ...countByTensor(masks ?? new Map()), unit: config.unit };
    const forgetTest = test.labels.filter((label) => forgetClasses.includes(label)).length;
    const record = {
      ...wanted,
      classes: train.classes,
      forgetClasses,
      counts: {
        forgetTrain: split.forget.length,
        remainTrain: split.remain.length,
        forgetTest,
        remainTest: test.size - forgetTest,
      },
      before,
      after,
      worstRemaining: worstRemaining(before, after, train.classes, forgetClasses),
      masked: { ...masked, ratio: masked.total === 0 ? 0 : masked.units / masked.total },
      reached: targetReached({ config, rounds, warnings }),
      warnings,
      rounds,
      watch: watch ?? null,
      fineTuning,
      seconds: { unlearning: seconds },
      // Times mean little on a busy machine: what else ran is part of the record.
      machine: { threads, loadAverage: loadavg()[0] },
      fishermask: VERSION,
      createdAt: new Date().toISOString(),
    };
    return { record, result: { weights: await readWeights(model.graph, network) } };
  } finally {
    network.dispose();
  }
}

function methodOf({ method }) {
  return Object.values(methods).find(({ name }) => name === method);
}
