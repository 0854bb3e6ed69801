import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { FishermaskError } from "../../src/native/errors.js";
import { criteria } from "../../src/unlearn/criteria.gen.js";
import { type Criterion, defineCriterion } from "../../src/unlearn/criterion.js";
import {
  compile,
  constant,
  type Expression,
  evaluate,
  forgetFisher,
  remainFisher,
  SCORE_OPS,
  weight,
} from "../../src/unlearn/expression.js";

const all: readonly (readonly [string, Criterion])[] = Object.entries(criteria);
const f = Math.fround;

function errorOf(body: () => unknown): FishermaskError {
  try {
    body();
  } catch (error) {
    if (error instanceof FishermaskError) return error;
    throw error;
  }
  throw new Error("no error was thrown");
}

function disassemble(expression: Expression): string {
  const { ops, values } = compile(expression);
  return [...ops]
    .map((op, i) => (SCORE_OPS[op] === "constant" ? String(values[i]) : SCORE_OPS[op]))
    .join(" ");
}

describe("the registry of criteria", () => {
  it("holds the eight criteria, sorted, each under its own name", () => {
    expect(Object.keys(criteria)).toEqual([
      "difference",
      "directional",
      "forget-only",
      "gradient",
      "magnitude",
      "random",
      "ratio",
      "saliency",
    ]);
    for (const [name, criterion] of all) expect(criterion.name).toBe(name);
  });

  it.each(all)("%s says what it does, whence it comes, and compiles", (_, criterion) => {
    expect(criterion.summary).toMatch(/\.$/);
    expect(criterion.source.length).toBeGreaterThan(0);
    expect(criterion.formula.length).toBeGreaterThan(0);
    expect(compile(criterion.score()).needs).toEqual(criterion.needs);
  });

  it("is up to date with its folder", () => {
    const script = fileURLToPath(new URL("../../scripts/gen.mjs", import.meta.url));
    const run = () => execFileSync(process.execPath, [script, "--check"], { stdio: "pipe" });
    expect(run).not.toThrow();
  });
});

describe("what the criteria compute", () => {
  const inputs = {
    forgetFisher: 0.3,
    remainFisher: 0.07,
    weight: -0.2,
    forgetGradient: 0.11,
    uniform: 0.625,
  };
  const ff = f(0.3);
  const fr = f(0.07);
  const w = f(-0.2);
  const g = f(0.11);
  const score = (name: keyof typeof criteria, options = {}) =>
    evaluate(criteria[name].score(options), inputs);

  it("difference: F_f − λ·F_r", () => {
    expect(score("difference")).toBe(f(ff - fr));
    expect(score("difference", { lambda: 5 })).toBe(f(ff - f(fr * 5)));
  });
  it("ratio: F_f / (F_r + ε)", () => {
    expect(score("ratio")).toBe(f(ff / f(fr + f(1e-12))));
    expect(score("ratio", { epsilon: 0.5 })).toBe(f(ff / f(fr + 0.5)));
  });
  it("saliency: ½θ²(F_f − λF_r)", () => {
    expect(score("saliency")).toBe(f(f(0.5 * f(w * w)) * f(ff - fr)));
    expect(score("saliency", { lambda: 2 })).toBe(f(f(0.5 * f(w * w)) * f(ff - f(fr * 2))));
  });
  it("forget-only: F_f", () => expect(score("forget-only")).toBe(ff));
  it("directional: max(0, −θg)/(|θ|√F_r + ε), and 0 where zeroing would help", () => {
    const damage = f(-w * f(Math.sqrt(fr)));
    expect(score("directional")).toBe(f(f(-w * g) / f(damage + f(1e-6))));
    expect(evaluate(criteria.directional.score(), { ...inputs, forgetGradient: -0.11 })).toBe(0);
  });
  it("magnitude: the smallest weight has the largest score", () => {
    expect(score("magnitude")).toBe(w);
    const magnitude = criteria.magnitude.score();
    expect(evaluate(magnitude, { weight: 0.1 })).toBeGreaterThan(evaluate(magnitude, inputs));
  });
  it("gradient: |g_f|", () => {
    expect(evaluate(criteria.gradient.score(), { forgetGradient: -0.11 })).toBe(g);
  });
  it("random: the draw", () => expect(score("random")).toBe(0.625));

  it("needs follow from the formula", () => {
    const read = (criterion: Criterion) =>
      Object.entries(criterion.needs).flatMap(([name, needed]) => (needed ? [name] : []));
    expect(read(criteria.difference)).toEqual(["forgetFisher", "remainFisher"]);
    expect(read(criteria.saliency)).toEqual(["forgetFisher", "remainFisher", "weight"]);
    expect(read(criteria.directional)).toEqual(["remainFisher", "weight", "forgetGradient"]);
    expect(read(criteria.random)).toEqual(["uniform"]);
  });
});

describe("options of criteria", () => {
  it.each(all)("%s refuses unknown and non-finite options by name", (name, criterion) => {
    for (const key of ["lamda", "toString", "__proto__x"]) {
      const error = errorOf(() => criterion.score({ [key]: 1 }));
      expect(error.code).toBe("ERR_FM_ARGUMENT");
      expect(error.message).toContain(`${key} of criterion "${name}"`);
    }
    for (const key of Object.keys(criterion.options)) {
      for (const value of [Number.NaN, Number.POSITIVE_INFINITY, 1e39, "1", null]) {
        const error = errorOf(() => criterion.score({ [key]: value } as never));
        expect(error.code).toBe("ERR_FM_ARGUMENT");
        expect(error.message).toContain(`a finite number for ${key} of criterion "${name}"`);
      }
    }
  });

  it("an option left undefined takes its default, and a foreign one is refused", () => {
    const left = { epsilon: undefined } as never;
    expect(disassemble(criteria.ratio.score(left))).toBe(disassemble(criteria.ratio.score()));
    expect(errorOf(() => criteria.ratio.score({ lambda: 1 })).message).toContain(
      "it takes: epsilon",
    );
    expect(errorOf(() => criteria.random.score({ lambda: 1 })).message).toContain("it takes: none");
    expect(criteria.difference.options).toEqual({ lambda: 1 });
    expect(criteria.ratio.options).toEqual({ epsilon: 1e-12 });
    expect(criteria.directional.options).toEqual({ epsilon: 1e-6 });
  });

  it("a definition whose score cannot be compiled fails where it is defined", () => {
    let deep: Expression = weight;
    for (let i = 0; i < 16; i++) deep = weight.add(deep);
    const texts = { name: "deep", summary: "Too deep.", source: "a test", formula: "w + (…)" };
    const error = errorOf(() => defineCriterion({ ...texts, options: {}, score: () => deep }));
    expect(error.code).toBe("ERR_FM_ARGUMENT");
    expect(error.message).toContain("17");
  });
});

describe("compile", () => {
  it("writes postfix: left, right, op", () => {
    expect(disassemble(forgetFisher.sub(remainFisher.mul(3)))).toBe(
      "forgetFisher remainFisher 3 mul sub",
    );
    expect(disassemble(constant(0).max(weight.neg()))).toBe("0 weight neg max");
  });

  it("numbers the ops as the engine's enum does", () => {
    const header = readFileSync(new URL("../../binding/core/score_op.h", import.meta.url), "utf8");
    const body = /enum class ScoreOp[^{]*\{([^}]*)\}/.exec(header)?.[1] ?? "";
    const names = [...body.matchAll(/^\s*k([A-Z]\w*)/gm)].map(([, name = ""]) => name);
    expect(names.map((name) => `${name[0]?.toLowerCase()}${name.slice(1)}`)).toEqual([
      ...SCORE_OPS,
    ]);
  });

  it("refuses constants that f32 cannot hold, and inputs that are missing", () => {
    expect(errorOf(() => constant(1e39)).message).toContain("1e+39");
    expect(errorOf(() => weight.add(Number.NaN)).code).toBe("ERR_FM_ARGUMENT");
    expect(errorOf(() => evaluate(weight, {})).message).toContain("weight");
  });

  it("accepts sixteen values on the stack and not one more", () => {
    let deep: Expression = weight;
    for (let i = 0; i < 15; i++) deep = weight.add(deep);
    expect(compile(deep).ops.length).toBe(31);
    expect(errorOf(() => compile(weight.add(deep))).message).toContain("at most 16");
  });
});
