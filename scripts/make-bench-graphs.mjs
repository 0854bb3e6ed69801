// Writes bench/graphs/*.json: the graphs that the native benchmarks run, as the built package makes them.
//     npm run build && node scripts/make-bench-graphs.mjs
import { mkdirSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { getArchitecture } from "../dist/model/architectures.js";

const folder = fileURLToPath(new URL("../bench/graphs/", import.meta.url));
const shapes = {
  resnet20: { inputShape: [32, 32, 3], classes: 10 },
  vgg16_bn: { inputShape: [32, 32, 3], classes: 10 },
  lenet: { inputShape: [28, 28, 1], classes: 10 },
};

mkdirSync(folder, { recursive: true });
for (const [name, shape] of Object.entries(shapes)) {
  const graph = getArchitecture(name).build(shape);
  writeFileSync(`${folder}${name}.json`, `${JSON.stringify(graph)}\n`);
}
