// Writes bench/graphs/*.json: the graphs that the native benchmarks run, as the built package makes them.
//     npm run build && node scripts/make-bench-graphs.mjs
import { mkdirSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { BENCH_NETWORKS, benchNetwork } from "../dist/model/bench-networks.js";

const folder = fileURLToPath(new URL("../bench/graphs/", import.meta.url));

mkdirSync(folder, { recursive: true });
for (const name of BENCH_NETWORKS) {
  writeFileSync(`${folder}${name}.json`, `${JSON.stringify(benchNetwork(name))}\n`);
}
