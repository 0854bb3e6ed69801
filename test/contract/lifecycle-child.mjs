// One process of lifecycle.test.ts: takes the addon to one step of its life and leaves there.
//   node lifecycle-child.mjs STEP ROOT GRAPH_JSON
// It loads the addon as src/native does, but without TypeScript, so that it needs no build of src/.
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";

const kWorkers = 20;
const kJobs = 4; // one runs, the others wait
const kElements = 1 << 22; // some tens of milliseconds a job

const [step, root, graph] = isMainThread ? process.argv.slice(2) : workerData;
const addon = createRequire(import.meta.url)("node-gyp-build")(root);

function startJobs() {
  const weight = new Float32Array(kElements).fill(1);
  // sqrt(sqrt(… weight)): the engine's thread has something to do.
  const depth = 12;
  const ops = Uint8Array.from({ length: depth + 1 }, (_, i) =>
    addon.scoreOps().indexOf(i === 0 ? "weight" : "sqrt"),
  );
  const scoring = {
    ops,
    values: new Float32Array(ops.length),
    unit: "weight",
    forgetCount: 1,
    remainCount: 1,
    seed: 0,
    threads: 1,
    tensors: [{ name: "t", shape: [kElements], weight }],
  };
  return Array.from({ length: kJobs }, () => addon.scoreUnits(scoring));
}

function evaluate(network) {
  const count = 256;
  const { shape } = JSON.parse(graph).inputs[0];
  const data = new Float32Array(shape.reduce((a, b) => a * b, count));
  return network.evaluate({ data, count }, new Int32Array(count), {});
}

const newNetwork = () => new addon.Network(graph, { threads: 2 });

function spawnWorker() {
  const worker = new Worker(fileURLToPath(import.meta.url), { workerData: ["jobs", root, graph] });
  const started = new Promise((resolve, reject) => {
    worker.once("message", resolve);
    worker.once("error", reject);
  });
  return { worker, started };
}

const steps = {
  "after load": async () => {},
  "process.exit after load": async () => process.exit(0),
  "after its jobs": async () => {
    await Promise.all(startJobs());
  },
  // Nothing awaits the jobs: they keep the process alive until they are done.
  "with jobs running": async () => {
    startJobs();
  },
  "process.exit with jobs running": async () => {
    startJobs();
    setTimeout(() => process.exit(0), 5);
  },
  "process.exit with a network and its jobs running": async () => {
    const network = newNetwork();
    for (let i = 0; i < kJobs; i += 1) evaluate(network);
    setTimeout(() => process.exit(0), 5);
  },
  "after dispose": async () => {
    const network = newNetwork();
    await evaluate(network);
    network.dispose();
  },
  "after dispose with a job running": async () => {
    const network = newNetwork();
    const running = evaluate(network);
    network.dispose();
    await running;
  },
  "without dispose": async () => {
    await evaluate(newNetwork());
  },
  "workers that end by themselves": async () => {
    for (let i = 0; i < kWorkers; i += 1) {
      const { worker, started } = spawnWorker();
      const ended = new Promise((resolve) => worker.once("exit", resolve));
      await started;
      const code = await ended;
      if (code !== 0) throw new Error(`a worker ended with code ${code}`);
    }
  },
  "worker.terminate() during jobs": async () => {
    for (let i = 0; i < kWorkers; i += 1) {
      const { worker, started } = spawnWorker();
      await started;
      await worker.terminate();
    }
  },
  "two workers and the main thread at once": async () => {
    const workers = [spawnWorker(), spawnWorker()];
    const ended = workers.map(({ worker }) => new Promise((end) => worker.once("exit", end)));
    await Promise.all(startJobs());
    const codes = await Promise.all(ended);
    if (codes.some((code) => code !== 0)) throw new Error(`workers ended with codes ${codes}`);
  },
  // In a worker.
  jobs: async () => {
    const jobs = startJobs();
    parentPort.postMessage("running");
    await Promise.all(jobs);
  },
};

await steps[step]();
// Says that the script came to its end, and not only that Node found nothing to wait for.
if (isMainThread) process.stdout.write("end\n");
