// Writes bench/graphs/vit_b16.json and gpt2_124m.json, the large networks of the CUDA benchmark, as the built package makes
// them: ViT-B/16 on 224×224 images in 1000 classes, GPT-2 (124M parameters, tied head) on 512 tokens.
//     npm run build && node bench/cuda/make-graphs.mjs
import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { getArchitecture } from "../../dist/model/architectures.js";
import { ConfigReader } from "../../dist/model/huggingface/config-reader.js";
import { buildGpt2 } from "../../dist/model/huggingface/gpt2.js";

const folder = fileURLToPath(new URL("../graphs/", import.meta.url));

/** GPT-2's own configuration: every key at its default. */
function gpt2() {
  const options = { sequenceLength: 512, tensors: new Set(["transformer.wte.weight"]) };
  return buildGpt2(new ConfigReader("bench", new Map()), options).graph;
}

const graphs = {
  vit_b16: getArchitecture("vit_b_16").build({ inputShape: [224, 224, 3], classes: 1000 }),
  gpt2_124m: gpt2(),
};
for (const [name, graph] of Object.entries(graphs)) {
  writeFileSync(`${folder}${name}.json`, `${JSON.stringify(graph)}\n`);
}
