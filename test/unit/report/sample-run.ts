import type {
  ClassScore,
  RunMetrics,
  SampleImage,
  Snapshot,
} from "../../../src/evaluate/run-metrics.js";

/** A run as a ResNet-20 on CIFAR-10 would give it: made-up figures of a plausible size. */
const kClasses = [
  "airplane",
  "automobile",
  "bird",
  "cat",
  "deer",
  "dog",
  "frog",
  "horse",
  "ship",
  "truck",
];
const kForgotten = 3;

function scores(accuracies: readonly number[], total: number): ClassScore[] {
  return accuracies.map((accuracy, i) => ({
    name: kClasses[i]!,
    correct: Math.round(accuracy * total),
    total,
  }));
}

function mean(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0) / values.length;
}

function snapshot(
  test: readonly number[],
  loss: [number, number],
  probe: [number, number],
): Snapshot {
  const train = test.map((accuracy) => Math.min(1, accuracy + 0.06 * accuracy));
  const others = (values: readonly number[]) => mean(values.filter((_, i) => i !== kForgotten));
  return {
    forget: { train: train[kForgotten]!, test: test[kForgotten]! },
    remain: { train: others(train), test: others(test) },
    perClass: { train: scores(train, 5000), test: scores(test, 1000) },
    loss: { forget: loss[0], remain: loss[1] },
    probe: { forget: probe[0], remain: probe[1] },
  };
}

const kTensors: readonly (readonly [string, number, number])[] = [
  ["conv1.weight", 432, 3],
  ...[1, 2, 3].flatMap((stage) =>
    [0, 1, 2].flatMap((block): (readonly [string, number, number])[] => {
      const width = 8 * 2 ** stage;
      const first = stage > 1 && block === 0 ? width / 2 : width;
      return [
        [`layer${stage}.${block}.conv1.weight`, width * first * 9, stage * stage * (9 + 5 * block)],
        [
          `layer${stage}.${block}.conv2.weight`,
          width * width * 9,
          stage * stage * (12 + 8 * block),
        ],
      ];
    }),
  ),
  ["linear.weight", 640, 0],
];

const kMaskedUnits = kTensors.reduce((total, [, , masked]) => total + masked, 0);
const kCandidates = kTensors.reduce((total, [, size]) => total + size, 0);

function histogram(): RunMetrics["scores"] {
  const bins = 80;
  const edges = Array.from({ length: bins + 1 }, (_, i) => 10 ** (-9 + (10 * i) / bins));
  const counts = Array.from({ length: bins }, (_, i) =>
    Math.round(16000 * Math.exp(-(((i - 36) / 11) ** 2))),
  );
  counts.fill(1, 74, 76);
  const maskedCounts = counts.map((count, i) => (i >= 58 ? count : 0));
  return { edges, counts, maskedCounts, threshold: edges[58]! };
}

export function sampleMetrics(changes: Partial<RunMetrics> = {}): RunMetrics {
  const before = [0.934, 0.962, 0.895, 0.836, 0.925, 0.871, 0.944, 0.939, 0.953, 0.948];
  const masked = [0.931, 0.959, 0.861, 0.007, 0.909, 0.832, 0.921, 0.928, 0.95, 0.944];
  const after = [0.938, 0.963, 0.884, 0.011, 0.921, 0.882, 0.946, 0.941, 0.955, 0.95];
  const retrained = [0.936, 0.964, 0.902, 0, 0.931, 0.913, 0.957, 0.944, 0.957, 0.95];
  return {
    schemaVersion: 1,
    fishermask: "0.1.0",
    createdAt: "2026-10-03T12:41:07Z",
    seed: 7,
    device: { requested: "auto", used: "cpu", threads: 2 },
    model: {
      arch: "resnet20",
      file: "models/resnet20.safetensors",
      sha256: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
      parameters: 272474,
    },
    data: {
      source: "cifar10:data/cifar10",
      classes: kClasses,
      forget: "class:3",
      forgetClasses: [kForgotten],
      counts: { forgetTrain: 5000, remainTrain: 45000, forgetTest: 1000, remainTest: 9000 },
    },
    method: "fisher-masking",
    preset: "default",
    config: {
      criterion: "directional",
      labels: "expected",
      temperature: 4,
      unit: "weight",
      scope: "global",
      exclude: ["linear.*"],
      stop: { forgetAccuracy: 0.01, maxRounds: 30 },
      fineTune: { epochs: 5, learningRate: 0.01, hold: true },
    },
    before: snapshot(before, [0.394, 0.0417], [0.862, 0.917]),
    maskedOnly: snapshot(masked, [6.218, 0.0893], [0.781, 0.898]),
    after: snapshot(after, [5.904, 0.0388], [0.774, 0.913]),
    retrained: snapshot(retrained, [7.415, 0.0361], [0.702, 0.918]),
    masked: {
      units: kMaskedUnits,
      total: kCandidates,
      ratio: kMaskedUnits / kCandidates,
      unit: "weight",
      scope: "global",
      criterion: "directional",
      perTensor: Object.fromEntries(kTensors.map(([name, , units]) => [name, units])),
      perTensorTotal: Object.fromEntries(kTensors.map(([name, size]) => [name, size])),
    },
    rounds: Array.from({ length: 12 }, (_, i) => ({
      round: i + 1,
      units: Math.round(((i + 1) * kMaskedUnits) / 12),
      ratio: ((i + 1) * kMaskedUnits) / 12 / kCandidates,
      forgetAccuracy: 0.88 / (1 + Math.exp((i - 4.2) / 1.1)) + 0.004,
      forgetLoss: 0.4 + 0.5 * i,
      remainAccuracy: 0.925 - 0.00018 * i * i,
    })),
    scores: histogram(),
    fineTuning: [0.1212, 0.0821, 0.0583, 0.0447, 0.0391].map((loss, i) => ({
      epoch: i + 1,
      loss,
      accuracy: 0.955 + 0.008 * i - 0.0006 * i * i,
      learningRate: 0.01 / (i + 1),
      seconds: 31.2,
    })),
    stages: [
      { name: "Load", seconds: 0.84 },
      { name: "Evaluate before", seconds: 21.3 },
      { name: "Fisher, forget set", seconds: 48.1 },
      { name: "Fisher, remain set", seconds: 97.6 },
      { name: "Select and mask", seconds: 0.041 },
      { name: "Fine-tune", seconds: 156.0 },
      { name: "Evaluate after", seconds: 22.4 },
      { name: "Linear probe", seconds: 9.7 },
    ],
    warnings: [
      "2 tensors (linear.weight, linear.bias) are excluded by the preset and were not scored",
    ],
    ...changes,
  };
}

const kEmptySnapshot: Snapshot = {
  forget: { train: null, test: null },
  remain: { train: null, test: null },
  perClass: { train: [], test: [] },
  loss: { forget: null, remain: null },
  probe: null,
};

/** A run that measured nothing, with every list empty and every null there can be. */
export function emptyMetrics(): RunMetrics {
  return sampleMetrics({
    model: { arch: "", file: null, sha256: null, parameters: 0 },
    data: {
      source: "",
      classes: [],
      forget: "",
      forgetClasses: [],
      counts: { forgetTrain: 0, remainTrain: 0, forgetTest: 0, remainTest: 0 },
    },
    preset: null,
    config: {},
    before: kEmptySnapshot,
    after: kEmptySnapshot,
    maskedOnly: null,
    retrained: null,
    masked: {
      units: 0,
      total: 0,
      ratio: 0,
      unit: "weight",
      scope: "global",
      criterion: "",
      perTensor: {},
      perTensorTotal: {},
    },
    rounds: [],
    scores: null,
    fineTuning: [],
    stages: [],
    warnings: [],
  });
}

/** A smooth 32 × 32 RGB picture, different for each index. */
export function sampleImage(index: number, changes: Partial<SampleImage> = {}): SampleImage {
  const side = 32;
  const pixels = new Uint8Array(side * side * 3);
  for (let i = 0; i < side * side; i++) {
    const [x, y] = [i % side, Math.floor(i / side)];
    const inside = (x - 16) ** 2 + (y - 15 - (index % 3)) ** 2 < 80 + 12 * (index % 5);
    pixels.set(
      inside ? [200 - 5 * y, 140 - 2 * x, 40 + 9 * (index % 7)] : [60 + 3 * x, 100 + 4 * y, 150],
      3 * i,
    );
  }
  const after = kClasses[[5, 2, 4, 6, 5, 3][index % 6]!]!;
  return {
    index,
    height: side,
    width: side,
    channels: 3,
    pixels,
    label: "cat",
    before: "cat",
    after,
    ...changes,
  };
}
