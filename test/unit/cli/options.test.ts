import { mkdirSync, writeFileSync } from "node:fs";
import { Command, InvalidArgumentError } from "commander";
import { describe, expect, it } from "vitest";
import { checkDestination } from "../../../src/cli/destination.js";
import { EXIT, exitCodeOf } from "../../../src/cli/exit-codes.js";
import {
  addCommon,
  addDevice,
  checkDevice,
  positive,
  positiveShare,
  realNumber,
  unitInterval,
  wholeNumber,
} from "../../../src/cli/options.js";
import { configOf, resultTable } from "../../../src/cli/verbs/unlearn.js";
import type { RunMetrics } from "../../../src/evaluate/run-metrics.js";
import { ERROR_CODES, FishermaskError } from "../../../src/native/errors.js";
import { presets } from "../../../src/unlearn/presets.gen.js";
import { expectError, temporaryFolder } from "../io/support.js";
import { sampleMetrics } from "../report/sample-run.js";

const file = temporaryFolder();

describe("numbers on the command line", () => {
  it("are taken as they are written, or refused with the text", () => {
    expect(wholeNumber(1)("12")).toBe(12);
    for (const text of ["", " ", "0", "-1", "1.5", "1e400", "ten", "NaN"]) {
      expect(() => wholeNumber(1)(text), text).toThrow(InvalidArgumentError);
      expect(() => wholeNumber(1)(text), text).toThrow(`received "${text}"`);
    }
    const ratio = realNumber("--ratio", unitInterval, "a number from 0 to 1");
    expect([ratio("0"), ratio("1"), ratio("2e-3")]).toEqual([0, 1, 0.002]);
    for (const text of ["", "1.5", "-0.1", "NaN", "Infinity", "1/2"]) {
      expect(() => ratio(text), text).toThrow("--ratio");
    }
    expect(positive(0)).toBe(false);
    expect(positive(Number.POSITIVE_INFINITY)).toBe(false);
  });
});

describe("--device", () => {
  const check = (args: readonly string[], takesDevice = true): Promise<void> => {
    const command = takesDevice ? addDevice(new Command("verb")) : addCommon(new Command("verb"));
    command.exitOverride().configureOutput({ writeErr: () => undefined });
    command.parse([...args], { from: "user" });
    return checkDevice(command);
  };

  it("auto and cpu pass; cuda is refused where there is none, never replaced", async () => {
    await check(["--device", "auto"]);
    await check(["--device", "cpu"]);
    await check([]);
    // No machine has so many.
    await expectError(() => check(["--device", "cuda:999"]), "ERR_FM_NO_DEVICE", "cuda:999");
  });

  it("other words are refused, and so is cuda for a verb that runs on the CPU", async () => {
    for (const device of ["gpu", "cuda:", "cuda:x", "CPU", ""]) {
      await expectError(() => check(["--device", device]), "ERR_FM_ARGUMENT", `"${device}"`);
    }
    await expectError(() => check(["--device", "cuda:0"], false), "ERR_FM_ARGUMENT", "verb", "CPU");
  });

  it("a precision is of CUDA devices", async () => {
    await check(["--precision", "bf16"]);
    await check(["--device", "cpu", "--precision", "f32"]);
    await expectError(
      () => check(["--device", "cpu", "--precision", "tf32"]),
      "ERR_FM_ARGUMENT",
      "tf32",
    );
    expect(() =>
      addDevice(new Command())
        .exitOverride()
        .configureOutput({ writeErr: () => undefined })
        .parse(["--precision", "f16"], { from: "user" }),
    ).toThrow("f16");
  });
});

describe("exit codes", () => {
  it("follow the error's code", () => {
    const wanted: Partial<Record<(typeof ERROR_CODES)[number], number>> = {
      ERR_FM_ARGUMENT: 2,
      ERR_FM_CONFIG: 2,
      ERR_FM_UNSUPPORTED: 2,
      ERR_FM_STATE: 2,
      ERR_FM_BAD_FILE: 3,
      ERR_FM_IO: 3,
      ERR_FM_MISMATCH: 3,
      ERR_FM_NON_FINITE: 3,
      ERR_FM_SHAPE: 3,
      ERR_FM_DTYPE: 3,
      ERR_FM_GRAPH: 3,
      ERR_FM_OUT_OF_MEMORY: 5,
      ERR_FM_NO_DEVICE: 6,
      ERR_FM_DEVICE_LOST: 6,
      ERR_FM_NO_PREBUILD: 6,
      ERR_FM_ABORTED: 130,
    };
    for (const code of ERROR_CODES) {
      expect(exitCodeOf(new FishermaskError(code, "x")), code).toBe(wanted[code] ?? 1);
    }
    expect(exitCodeOf(new RangeError("Array buffer allocation failed"))).toBe(EXIT.outOfMemory);
    expect(exitCodeOf(new RangeError("Invalid array length"))).toBe(EXIT.outOfMemory);
    expect(exitCodeOf(new RangeError("offset out of bounds"))).toBe(EXIT.unexpected);
    expect(exitCodeOf(new TypeError("x"))).toBe(EXIT.unexpected);
    expect(exitCodeOf("x")).toBe(EXIT.unexpected);
  });
});

describe("the options of unlearn", () => {
  type Options = Parameters<typeof configOf>[0];
  const config = (options: Partial<Options> = {}) =>
    configOf({ preset: "default", batch: 128, seed: 0, ...options } as Options);

  it("leave a preset as it is", () => {
    expect(config()).toEqual(presets.default.config);
    expect(config({ preset: "liu2023" })).toEqual(presets.liu2023.config);
  });

  it("change what they name", () => {
    const changed = config({
      iterated: true,
      criterion: "saliency",
      lambda: 2,
      unit: "kernel",
      exclude: ["fc*"],
      excludeHead: false,
      hold: false,
      temperature: 2,
      forgetSamples: 7,
      targetLoss: 3,
      seed: 5,
      fineTune: 2,
      fineTuneSamples: 50,
    });
    expect(changed).toMatchObject({
      criterion: "saliency",
      criterionOptions: { lambda: 2 },
      unit: "kernel",
      exclude: ["fc*"],
      excludeHead: false,
      hold: false,
      fisher: { temperature: 2, forgetSamples: 7, remainSamples: 500 },
      target: { accuracy: presets.default.config.target.accuracy, loss: 3 },
      seed: 5,
      fineTune: { epochs: 2, learningRate: 0.01, samples: 50, batchSize: 128 },
    });
  });

  it("choose one way to select, and refuse two, or a bound that a fixed ratio has no use for", async () => {
    const of = (options: Partial<Options>) => config(options).selection;
    expect(of({ ratio: 0.1 })).toEqual({ kind: "fixed", ratio: 0.1 });
    expect(of({ adaptive: true })).toEqual({ kind: "adaptive", maxRatio: 0.06 });
    expect(of({ adaptive: true, maxRatio: 0.2 })).toEqual({ kind: "adaptive", maxRatio: 0.2 });
    const iterated = { kind: "iterated", ratioPerRound: 0.002, maxRatio: 0.06 };
    expect(of({ iterated: true })).toEqual(iterated);
    expect(of({ iterated: true, ratioPerRound: 0.01 })).toEqual({
      ...iterated,
      ratioPerRound: 0.01,
    });
    const liu2023 = { preset: "liu2023" } as const;
    const rounds = { ...liu2023, ratioPerRound: 0.01, targetAccuracy: 0.1 };
    expect(of(rounds)).toEqual({ ...iterated, ratioPerRound: 0.01 });
    expect(of(liu2023)).toEqual({ kind: "fixed", ratio: 0.02 });
    await expectError(() => of({ ratio: 0.1, adaptive: true }), "ERR_FM_ARGUMENT", "--adaptive");
    for (const rounds of [{ iterated: true }, { ratioPerRound: 0.1 }]) {
      await expectError(() => of({ ...rounds, ratio: 0.1 }), "ERR_FM_ARGUMENT", "--iterated");
      await expectError(() => of({ ...rounds, adaptive: true }), "ERR_FM_ARGUMENT", "--iterated");
    }
    await expectError(() => of({ ratio: 0.1, maxRatio: 1 }), "ERR_FM_ARGUMENT", "--max-ratio");
    await expectError(() => of({ ...liu2023, maxRatio: 0.1 }), "ERR_FM_ARGUMENT", "--max-ratio");
  });

  it("narrow the preset's own rounds, of whatever kind", () => {
    for (const preset of ["default", "prototype", "deep"] as const) {
      const of = (options: Partial<Options>) => config({ preset, ...options }).selection;
      const own = presets[preset].config.selection;
      expect(of({})).toEqual(own);
      expect(of({ maxRatio: 0.2 })).toEqual({ ...own, maxRatio: 0.2 });
      expect(of({ ratioPerRound: 0.01 })).toEqual({ ...own, ratioPerRound: 0.01 });
      expect(config({ preset, targetAccuracy: 0.2 }).target.accuracy).toBe(0.2);
    }
    const iterated = config({ preset: "prototype", iterated: true, maxRatio: 0.2 });
    expect(iterated.selection).toEqual({ kind: "iterated", ratioPerRound: 0.002, maxRatio: 0.2 });
  });

  it("leave the preset deep as it is, or take its rounds or its new head away", () => {
    const deep = presets.deep.config;
    expect(config({ preset: "deep" })).toEqual(deep);
    const { selection, refitHead } = config({ preset: "deep", ratio: 0.01, refitHead: false });
    expect(selection).toEqual({ kind: "fixed", ratio: 0.01 });
    expect(refitHead).toBeNull();
    expect(config({ preset: "deep", iterated: true })).toMatchObject({
      selection: { kind: "iterated", ratioPerRound: 0.002, maxRatio: 0.06 },
      refitHead: 0.1,
    });
  });

  it("fit a new head where they say so", () => {
    expect(config().refitHead ?? null).toBeNull();
    expect(config({ refitHead: 0.25 }).refitHead).toBe(0.25);
    expect(config({ preset: "deep", refitHead: 1 }).refitHead).toBe(1);
    const share = realNumber("--refit-head", positiveShare, "a number above 0 and at most 1");
    expect([share("0.1"), share("1")]).toEqual([0.1, 1]);
    for (const text of ["0", "1.1", "-0.1", "", "NaN"]) {
      expect(() => share(text), text).toThrow("--refit-head");
    }
  });

  it("of fine-tuning are refused without --fine-tune", () => {
    for (const stray of [{ learningRate: 0.1 }, { fineTuneSamples: 50 }]) {
      expect(() => config(stray)).toThrow(/--fine-tune EPOCHS/);
    }
  });

  it("name the criterion that the preset's guarded rounds cannot follow", async () => {
    await expectError(() => config({ criterion: "ratio" }), "ERR_FM_CONFIG", "criterion", "ratio");
    expect(config({ criterion: "ratio", iterated: true }).criterion).toBe("ratio");
  });

  it("are refused by key when they do not fit the criterion", async () => {
    await expectError(() => config({ lambda: 2 }), "ERR_FM_CONFIG", "lambda", "directional");
  });
});

describe("the table of a run", () => {
  const networks = (metrics: RunMetrics) =>
    resultTable(metrics)
      .split("\n")
      .slice(2)
      .map((line) => line.split(/ {2,}/)[0]);

  it("names what was done to each network", () => {
    const { config } = sampleMetrics();
    const refitted = { config: { ...config, refitHead: 0.1 } };
    const last = (name: string) => ["before", "masked", name, "retrained"];
    expect(networks(sampleMetrics())).toEqual(last("masked + fine-tuned"));
    expect(networks(sampleMetrics(refitted))).toEqual(last("masked + new head + fine-tuned"));
    const alone = sampleMetrics({ ...refitted, fineTuning: [] });
    expect(networks(alone)).toEqual(last("masked + new head"));
    const plain = sampleMetrics({ fineTuning: [], maskedOnly: null, retrained: null });
    expect(networks(plain)).toEqual(["before", "masked"]);
  });
});

describe("a destination", () => {
  it("is looked at before the work, and nothing is made", async () => {
    const folder = file("folder");
    mkdirSync(folder);
    const plain = file("plain");
    writeFileSync(plain, "x");
    await checkDestination(undefined);
    await checkDestination(`${folder}/new.safetensors`);
    await checkDestination(plain);
    for (const path of [`${plain}/x.safetensors`, file("none/x.safetensors"), folder]) {
      await expectError(() => checkDestination(path), "ERR_FM_IO", path);
    }
  });
});
