import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { beforeAll, describe, expect, it } from "vitest";
import { createModel, saveModel } from "../../src/model/model.js";
import { temporaryFolder } from "../unit/io/support.js";
import { cli, FASHION, fails, SLOW } from "./support.js";

const file = temporaryFolder();
const RECORD = 3073;
const USAGE = 2;
const BAD_INPUT = 3;
const NO_DEVICE = 6;

/** CIFAR-10 records of grey images, labels in turn. */
function records(count: number): Buffer {
  const bytes = Buffer.alloc(count * RECORD, 90);
  for (let i = 0; i < count; i++) bytes[i * RECORD] = i % 10;
  return bytes;
}

function cifar(name: string, train: Buffer, test = records(20)): string[] {
  mkdirSync(file(name), { recursive: true });
  writeFileSync(file(`${name}/data_batch_1.bin`), train);
  writeFileSync(file(`${name}/test_batch.bin`), test);
  return ["--data", `cifar10:${file(name)}`];
}

const fashion = ["--data", FASHION];
let lenet: string[] = [];
let evaluate: string[] = [];
let unlearn: string[] = [];

beforeAll(async () => {
  const model = createModel({ arch: "lenet", inputShape: [28, 28, 1], classes: 10 }, 1);
  await saveModel(model, model.weights, file("lenet.safetensors"));
  lenet = ["--model", file("lenet.safetensors")];
  evaluate = ["evaluate", ...lenet, ...fashion];
  unlearn = ["unlearn", ...lenet, ...fashion, "--forget", "class:3", "--out", file("run")];
});

describe("usage errors end with 2 and name the option", { timeout: SLOW }, () => {
  it("no command, an unknown one, and what is missing", async () => {
    await fails([], USAGE, "Usage: fishermask");
    await fails(["forgive"], USAGE, "forgive");
    await fails(["evaluate", ...lenet], USAGE, "--data");
    await fails(["evaluate", ...fashion], USAGE, "--model");
    await fails(["unlearn", ...lenet, ...fashion, "--out", file("run")], USAGE, "--forget");
  });

  it("unknown options and values", async () => {
    await fails([...evaluate, "--modle", "x"], USAGE, "--modle");
    await fails([...evaluate, "--split", "valid"], USAGE, "--split", "valid");
    await fails(
      [...evaluate, "--subset", "some", "--forget", "class:3"],
      USAGE,
      "--subset",
      "some",
    );
    await fails([...evaluate, "--subset", "forget"], USAGE, "--forget");
    await fails([...evaluate, "--batch", "0"], USAGE, "--batch", '"0"');
    await fails([...evaluate, "--limit", "1.5"], USAGE, "--limit", '"1.5"');
    await fails([...evaluate, "--normalize", "bright"], USAGE, "bright");
    await fails(["evaluate", ...lenet, "--data", "fashion:x"], USAGE, "fashion:x");
    await fails([...evaluate, "--arch", "lenet9"], USAGE, "lenet9");
  });

  it("--forget that names nothing", async () => {
    for (const [text, word] of [
      ["class:Socks", "Socks"],
      ["class:10", "10"],
      ["shoes", "shoes"],
      ["random:1.5", "1.5"],
      ["class:3,3", "3,3"],
    ] as const) {
      const common = ["unlearn", ...lenet, ...fashion, "--out", file("run")];
      await fails([...common, "--forget", text], USAGE, word);
    }
  });

  it("ratios, presets, and options that do not go together", async () => {
    await fails([...unlearn, "--ratio", "1.5"], USAGE, "--ratio", '"1.5"');
    await fails([...unlearn, "--preset", "best"], USAGE, "--preset", "best");
    await fails([...unlearn, "--ratio", "0.1", "--adaptive"], USAGE, "--adaptive");
    await fails([...unlearn, "--ratio", "0.1", "--max-ratio", "0.2"], USAGE, "--max-ratio");
    await fails([...unlearn, "--lambda", "2"], USAGE, "lambda", "directional");
    await fails([...unlearn, "--method", "retrain"], USAGE, "fineTune");
    await fails([...unlearn, "--fisher-all", file("x")], USAGE, "--fisher-all", "--fisher-forget");
    await fails([...unlearn, "--exclude", "layer9*"], USAGE, "layer9*");
    await fails(["mask", ...lenet, ...fashion], USAGE, "--ratio");
  });

  it("devices: 2 for no such name, 6 for one that is not here", async () => {
    await fails([...evaluate, "--device", "nonsense"], USAGE, "--device", "nonsense");
    await fails([...evaluate, "--device", "cuda:999"], NO_DEVICE, "cuda:999");
    await fails([...evaluate, "--device", "cpu", "--precision", "bf16"], USAGE, "bf16");
    await fails(
      ["mask", ...lenet, ...fashion, "--ratio", "0.1", "--device", "cuda:0"],
      USAGE,
      "mask",
      "CPU",
    );
  });

  it("--help and --version are no errors", async () => {
    for (const flag of ["--help", "--version"]) {
      const ending = await cli([flag]);
      expect(ending).toMatchObject({ code: 0, stderr: "" });
      expect(ending.stdout.length).toBeGreaterThan(0);
    }
  });
});

describe("bad input ends with 3 and names the file and the place", { timeout: SLOW }, () => {
  it("a model that is missing, cut off, of another architecture, no model, or says none", async () => {
    const none = file("none.safetensors");
    await fails(["evaluate", ...fashion, "--model", none], BAD_INPUT, none, "ENOENT");
    const whole = readFileSync(file("lenet.safetensors"));
    for (const length of [0, 7, 200, whole.length - 1]) {
      const path = file("cut.safetensors");
      writeFileSync(path, whole.subarray(0, length));
      await fails(["evaluate", ...fashion, "--model", path], BAD_INPUT, path);
    }
    await fails([...evaluate, "--arch", "mlp"], BAD_INPUT, "mlp", "fc1.weight", "conv1.weight");
    const page = file("page.html");
    writeFileSync(page, "<html>not found</html>");
    await fails(["evaluate", ...fashion, "--model", page], BAD_INPUT, page);
  });

  it("NaN in a weight, by tensor", async () => {
    const bytes = readFileSync(file("lenet.safetensors"));
    const path = file("nan.safetensors");
    bytes.writeFloatLE(Number.NaN, bytes.length - 4);
    writeFileSync(path, bytes);
    const words = ["NaN", path, "tensor"];
    await fails(["evaluate", ...fashion, "--model", path], BAD_INPUT, ...words);
    const out = file("nan-run");
    const run = ["unlearn", ...fashion, "--model", path, "--forget", "class:3", "--out", out];
    await fails(run, BAD_INPUT, ...words);
    expect(readdirSync(file("."))).not.toContain("nan-run");
  });

  it("CIFAR files: cut off, a label out of range, missing, or not images of this network", async () => {
    const resnet = createModel({ arch: "resnet20", inputShape: [32, 32, 3], classes: 10 }, 1);
    const path = file("resnet.safetensors");
    await saveModel(resnet, resnet.weights, path);
    const command = ["evaluate", "--model", path, "--arch", "resnet20"];
    const cut = cifar("cut", records(5).subarray(0, 5 * RECORD - 1));
    await fails([...command, ...cut], BAD_INPUT, "data_batch_1.bin");
    const wrong = records(5);
    wrong[3 * RECORD] = 10;
    await fails([...command, ...cifar("label", wrong)], BAD_INPUT, "data_batch_1.bin", "10", "3");
    mkdirSync(file("empty"));
    await fails([...command, "--data", `cifar10:${file("empty")}`], BAD_INPUT, "data_batch_1.bin");
    const colour = cifar("colour", records(5));
    await fails(["evaluate", ...lenet, ...colour], BAD_INPUT, "conv1.weight");
  });

  it("Fisher stores of another network or that are no stores", async () => {
    const store = ["--fisher-forget", file("lenet.safetensors")];
    const mask = ["mask", ...lenet, ...fashion, "--ratio", "0.1"];
    await fails([...mask, ...store], BAD_INPUT, "lenet.safetensors", "format");
    const out = file("other.safetensors");
    const other = createModel({ arch: "lenet", inputShape: [28, 28, 1], classes: 10 }, 2);
    await saveModel(other, other.weights, file("other-model.safetensors"));
    const made = await cli([
      ...["fisher", "--model", file("other-model.safetensors"), ...fashion],
      ...["--limit", "10", "--out", out],
    ]);
    expect(made.code).toBe(0);
    await fails([...mask, "--fisher-forget", out], BAD_INPUT, "forget", "other weights");
    await fails([...unlearn, "--temperature", "1", "--fisher-forget", out], BAD_INPUT, "another");
  });

  it("a place that cannot be written, before the work", async () => {
    const plain = file("plain");
    writeFileSync(plain, "x");
    for (const out of [`${plain}/deep`, `${plain}/deep/er`]) {
      const run = ["unlearn", ...lenet, ...fashion, "--forget", "class:3", "--out", out];
      const ending = await cli(run);
      expect(ending).toMatchObject({ code: BAD_INPUT, stdout: "" });
      expect(ending.stderr).toContain(out);
      expect(ending.stderr).not.toContain("Before");
    }
    const fisher = ["fisher", ...lenet, ...fashion, "--out"];
    for (const out of [`${plain}/f.safetensors`, file("no/f.safetensors"), file(".")]) {
      const ending = await cli([...fisher, out]);
      expect(ending).toMatchObject({ code: BAD_INPUT, stdout: "" });
      expect(ending.stderr).toContain(out);
      expect(ending.stderr).not.toContain("Fisher:");
    }
    const train = ["train", "--arch", "lenet", ...fashion, "--out", `${plain}/m.safetensors`];
    await fails(train, BAD_INPUT, `${plain}/m.safetensors`);
    expect(readFileSync(plain, "utf8")).toBe("x");
  });

  it("messages are plain text where stderr is no terminal", async () => {
    const { stderr } = await cli(["evaluate", ...fashion, "--model", file("none.safetensors")]);
    expect(stderr).not.toContain("\u001B");
    expect(stderr).toMatch(/\[ERR_FM_IO\]\n$/);
  });
});
