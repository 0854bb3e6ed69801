/**
 * fishermask: machine unlearning as a native Node addon. See the README for an example.
 *
 * @packageDocumentation
 */
export { batches } from "./data/batches.js";
export {
  arrayDataset,
  type Dataset,
  type DatasetView,
  datasetDigest,
  type ImageDataset,
  subset,
  type TokenDataset,
  tokenDataset,
  wholeView,
} from "./data/dataset.js";
export { type Normalization, parseNormalization } from "./data/normalize.js";
export { loadDataset } from "./data/source.js";
export { checkDisjoint, type ForgetSplit, splitForget } from "./data/split.js";
export { type EvaluateOptions, type Evaluation, evaluate } from "./evaluate/accuracy.js";
export {
  linearProbe,
  type ProbeOptions,
  type ProbeResult,
  type ProbeSet,
} from "./evaluate/probe.js";
export type { RunMetrics, SampleImage, Snapshot } from "./evaluate/run-metrics.js";
export { rewriteSafetensors, SafetensorsFile, writeSafetensors } from "./io/safetensors.js";
export { architectures, getArchitecture } from "./model/architectures.js";
export { GraphBuilder } from "./model/builder.js";
export { candidateTensors, headParameters } from "./model/candidates.js";
export type { Graph } from "./model/graph.js";
export { openHuggingFaceModel } from "./model/huggingface/open.js";
export { initialize } from "./model/initialize.js";
export {
  createModel,
  loadNetwork,
  type Model,
  type ModelShape,
  openModel,
  readWeights,
  saveModel,
} from "./model/model.js";
export { exportOnnx } from "./model/onnx/export.js";
export { type OpenOnnxOptions, openOnnxModel } from "./model/onnx/open.js";
export { type OpenModelOptions, openAnyModel } from "./model/open.js";
export {
  type CudaAvailability,
  chooseDevice,
  cudaAvailability,
  type DeviceChoice,
  type DeviceInfo,
  type DeviceRequest,
  EngineDevice,
  type Precision,
} from "./native/device.js";
export { ERROR_CODES, FishermaskError, type FishermaskErrorCode } from "./native/errors.js";
export type { KeepMask, Scope, Unit } from "./native/masking.js";
export { EngineNetwork, type InputNormalization } from "./native/network.js";
export { renderReport } from "./report/report.js";
export type { Schedule } from "./train/schedule.js";
export { type TrainedEpoch, type TrainOptions, train } from "./train/train.js";
export {
  definePreset,
  type Preset,
  resolveConfig,
  type UnlearnConfig,
  type UnlearnOverrides,
} from "./unlearn/config.js";
export { criteria } from "./unlearn/criteria.gen.js";
export { type Criterion, defineCriterion } from "./unlearn/criterion.js";
export { computeFisher, type FisherOptions, type FisherResult } from "./unlearn/fisher.js";
export {
  addFishers,
  type FisherMeta,
  type FisherStore,
  loadFisher,
  saveFisher,
  subtractFishers,
} from "./unlearn/fisher-store.js";
export {
  countByTensor,
  type MaskRule,
  type MaskSelection,
  type MaskSet,
  maskWeights,
  scoreNetwork,
  selectMask,
  type UnitScores,
} from "./unlearn/mask.js";
export { loadMasks, saveMasks } from "./unlearn/mask-file.js";
export {
  defineMethod,
  type Method,
  type MethodContext,
  type MethodOutcome,
  type StageReporter,
} from "./unlearn/method.js";
export { methods } from "./unlearn/methods.gen.js";
export {
  applyPatch,
  loadPatch,
  makePatch,
  type Patch,
  revertPatch,
  savePatch,
} from "./unlearn/patch.js";
export { presets } from "./unlearn/presets.gen.js";
export { prepareRunDirectory, writeRun } from "./unlearn/run-directory.js";
export { type UnlearnRequest, type UnlearnResult, unlearn } from "./unlearn/unlearn.js";
export { VERSION } from "./version.js";
