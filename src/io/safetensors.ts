// The safetensors room's door: other rooms import from here.
export { SafetensorsFile } from "./safetensors-file.js";
export type { SafetensorsDtype, TensorInfo } from "./safetensors-header.js";
export { rewriteSafetensors } from "./safetensors-rewrite.js";
export { parseShardIndex, ShardedSafetensors, type ShardIndex } from "./safetensors-sharded.js";
export {
  type SafetensorsMetadata,
  type TensorSource,
  writeSafetensors,
} from "./safetensors-write.js";
