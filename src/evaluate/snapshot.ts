import { type Dataset, type DatasetView, subset, wholeView } from "../data/dataset.js";
import type { EngineNetwork, InputNormalization } from "../native/network.js";
import { type Evaluation, evaluate } from "./accuracy.js";
import { linearProbe } from "./probe.js";
import type { ClassScore, Snapshot } from "./run-metrics.js";

/** The samples that a snapshot looks at. */
export interface SnapshotPlan {
  readonly train: Dataset;
  readonly test: Dataset | null;
  /** Indices into `train`. */
  readonly forgetTrain: Int32Array;
  readonly remainTrain: Int32Array;
  /** Indices into `test`: of the forgotten classes, and the others. Empty where forgetting is not by class. */
  readonly forgetTest: Int32Array;
  readonly remainTest: Int32Array;
  /** Training samples that the linear probe is fitted on; empty: no probe. */
  readonly probe: Int32Array;
  readonly forgetClasses: readonly number[];
  /** Of images; none for token sequences. */
  readonly normalization: InputNormalization | undefined;
  readonly batchSize: number;
  /** The value that the probe reads. */
  readonly features: string;
}

export interface SnapshotCallbacks {
  readonly stage: (name: string, total: number | null) => void;
  readonly progress: (done: number) => void;
  readonly signal?: AbortSignal | undefined;
}

/** A snapshot with the predictions that it was made of: training samples, in file order. */
export interface DetailedSnapshot {
  readonly snapshot: Snapshot;
  readonly trainPredictions: Int32Array;
}

// Both read an evaluation of the whole data set in file order: a sample's place is its index.
function accuracyOf(evaluation: Evaluation, indices: Int32Array): number | null {
  let right = 0;
  let counted = 0;
  for (const index of indices) {
    right += evaluation.right[index] as number;
    counted += evaluation.counted[index] as number;
  }
  return counted === 0 ? null : right / counted;
}

function lossOf(evaluation: Evaluation, indices: Int32Array): number | null {
  if (indices.length === 0) return null;
  let sum = 0;
  for (const index of indices) sum += evaluation.losses[index] as number;
  return sum / indices.length;
}

function classScores(dataset: Dataset, evaluation: Evaluation): ClassScore[] {
  return dataset.classes.map((name, i) => {
    const counts = evaluation.perClass[i] ?? { correct: 0, total: 0 };
    return { name, correct: counts.correct, total: counts.total };
  });
}

function mean(values: readonly (number | null | undefined)[]): number | null {
  const known = values.filter((value): value is number => typeof value === "number");
  return known.length === 0 ? null : known.reduce((sum, value) => sum + value, 0) / known.length;
}

async function probeOf(
  network: EngineNetwork,
  plan: SnapshotPlan,
  test: Dataset,
  testEvaluation: Evaluation,
  callbacks: SnapshotCallbacks,
): Promise<Snapshot["probe"]> {
  const view = subset(plan.train, plan.probe);
  callbacks.stage("Linear probe", view.indices.length);
  const fitted = await evaluate(network, view, {
    batchSize: plan.batchSize,
    normalization: plan.normalization,
    keep: plan.features,
    signal: callbacks.signal,
    onProgress: (done) => callbacks.progress(done),
  });
  const result = await linearProbe(
    {
      features: fitted.features,
      labels: view.indices.map((index) => plan.train.labels[index] as number),
    },
    { features: testEvaluation.features, labels: test.labels },
    { classes: test.classes.length, threads: network.threads, signal: callbacks.signal },
  );
  const isForgotten = (i: number): boolean => plan.forgetClasses.includes(i);
  const remain = mean(result.perClass.filter((_, i) => !isForgotten(i)));
  if (remain === null) return null;
  return { forget: mean(result.perClass.filter((_, i) => isForgotten(i))), remain };
}

/**
 * Measures the network on forget/remain × train/test, by class, and with the linear probe.
 *
 * @throws as {@link evaluate}
 */
export async function takeSnapshot(
  network: EngineNetwork,
  plan: SnapshotPlan,
  label: string,
  callbacks: SnapshotCallbacks,
): Promise<DetailedSnapshot> {
  const { normalization, batchSize, test } = plan;
  const { signal } = callbacks;
  const run = (name: string, view: DatasetView, keep?: string): Promise<Evaluation> => {
    callbacks.stage(`${label}, ${name}`, view.indices.length);
    return evaluate(network, view, {
      batchSize,
      normalization,
      keep,
      signal,
      onProgress: (done) => callbacks.progress(done),
    });
  };
  const trainView = wholeView(plan.train);
  const onTrain = await run("training samples", trainView);
  const withProbe = plan.probe.length > 0;
  const testView = test === null ? null : wholeView(test);
  const onTest =
    testView === null
      ? null
      : await run("test samples", testView, withProbe ? plan.features : undefined);
  const testAccuracy = (indices: Int32Array): number | null =>
    onTest === null ? null : accuracyOf(onTest, indices);
  const snapshot: Snapshot = {
    forget: {
      train: accuracyOf(onTrain, plan.forgetTrain),
      test: testAccuracy(plan.forgetTest),
    },
    remain: {
      train: accuracyOf(onTrain, plan.remainTrain),
      test: testAccuracy(plan.remainTest),
    },
    perClass: {
      train: classScores(plan.train, onTrain),
      test: test === null || onTest === null ? [] : classScores(test, onTest),
    },
    loss: { forget: lossOf(onTrain, plan.forgetTrain), remain: lossOf(onTrain, plan.remainTrain) },
    probe:
      withProbe && test !== null && onTest !== null
        ? await probeOf(network, plan, test, onTest, callbacks)
        : null,
  };
  return { snapshot, trainPredictions: onTrain.predictions };
}
