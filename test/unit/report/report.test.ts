/// <reference lib="dom" />
import { parseHTML } from "linkedom";
import { describe, expect, it } from "vitest";
import type { RunMetrics, SampleImage, Snapshot } from "../../../src/evaluate/run-metrics.js";
import { renderReport } from "../../../src/report/report.js";
import { emptyMetrics, sampleImage, sampleMetrics } from "./sample-run.js";

function parse(page: string): Document {
  return parseHTML(page).document as unknown as Document;
}

function textOf(metrics: RunMetrics, samples: readonly SampleImage[] = []): string {
  const body = parse(renderReport(metrics, samples)).querySelector("main");
  return (body?.textContent ?? "").replace(/\s+/g, " ");
}

function cellsOf(metrics: RunMetrics): string[][] {
  const rows = parse(renderReport(metrics, [])).querySelectorAll("table.results tr");
  return Array.from(rows, (row) =>
    Array.from(
      row.querySelectorAll("td, th[scope=row], th[scope=col]"),
      (cell) => cell.textContent ?? "",
    ),
  );
}

const kAllowed = new Set([
  ..."html head meta title style body main header footer section h1 h2 h3 p div small b span bdi ul li".split(
    " ",
  ),
  ..."table thead tbody tfoot tr th td figure figcaption details summary img dl dt dd code".split(
    " ",
  ),
  ..."svg g path rect circle line text tspan desc".split(" "),
]);

function expectInert(page: string): void {
  const elements = Array.from(parse(page).querySelectorAll("*"));
  expect(elements.length).toBeGreaterThan(50);
  for (const element of elements) {
    expect(kAllowed).toContain(element.tagName.toLowerCase());
    for (const { name, value } of Array.from(element.attributes)) {
      expect(name).not.toMatch(/^on/i);
      expect(["href", "srcdoc", "action", "formaction", "background", "xlink:href"]).not.toContain(
        name,
      );
      if (name === "src") {
        expect(value).toMatch(/^data:image\/png;base64,[A-Za-z0-9+/]+=*$/);
      }
      if (name !== "xmlns") {
        expect(value).not.toMatch(/(?:https?|ftp|javascript):/i);
      }
    }
  }
}

describe("renderReport", () => {
  it("is inert and forbids everything but its own style and data images", () => {
    const page = renderReport(sampleMetrics(), [sampleImage(0)]);
    expectInert(page);
    const policy = parse(page).querySelector("meta[http-equiv=Content-Security-Policy]");
    expect(policy?.getAttribute("content")).toContain(
      "default-src 'none'; style-src 'unsafe-inline'; img-src data:",
    );
    expect(page.replaceAll("http://www.w3.org/2000/svg", "")).not.toMatch(/https?:\/\//);
    expect(page).not.toMatch(/@import|url\(/);
  });

  it("shows the figures of the metrics", () => {
    const cells = cellsOf(sampleMetrics());
    expect(cells[0]).toEqual(["Before", "Masked", "Masked + fine-tuned", "Change", "Retrained"]);
    expect(cells.slice(1)).toEqual([
      ["training", "88.6 %", "0.7 %", "1.2 %", "−87.4", "0.0 %"],
      ["test", "83.6 %", "0.7 %", "1.1 %", "−82.5", "0.0 %"],
      ["training", "98.2 %", "96.7 %", "98.2 %", "0.0", "98.9 %"],
      ["test", "93.0 %", "91.5 %", "93.1 %", "+0.1", "93.9 %"],
      ["forget", "0.394", "6.218", "5.904", "+5.51", "7.415"],
      ["remain", "0.0417", "0.0893", "0.0388", "−0.0029", "0.0361"],
      ["forget", "86.2 %", "78.1 %", "77.4 %", "−8.8", "70.2 %"],
      ["remain", "91.7 %", "89.8 %", "91.3 %", "−0.4", "91.8 %"],
    ]);
  });

  it("says where the head is a new one, with and without fine-tuning", () => {
    const { config } = sampleMetrics();
    const refitted = { config: { ...config, refitHead: 0.1 } };
    const tuned = sampleMetrics(refitted);
    expect(cellsOf(tuned)[0]?.[2]).toBe("Masked + new head + fine-tuned");
    expect(textOf(tuned)).toContain("the head was fitted anew on remain samples, and the network");
    const alone = sampleMetrics({ ...refitted, fineTuning: [] });
    expect(cellsOf(alone)[0]?.[2]).toBe("Masked + new head");
    expect(textOf(alone)).toContain("fitted anew on remain samples; nothing was fine-tuned");
    // A method that masks nothing leaves the head alone, whatever its preset says.
    const other = sampleMetrics({ ...refitted, maskedOnly: null });
    expect(textOf(other)).not.toContain("the head was fitted anew");
  });

  it("says in words what was asked, masked and paid", () => {
    const text = textOf(sampleMetrics());
    expect(text).toContain(
      "was asked to forget the class “cat” (5,000 of 50,000 training samples)",
    );
    expect(text).toContain("1,431 of 268,336 weights (0.53 %)");
    expect(text).toContain("accuracy went from 83.6 % to 1.1 %");
    expect(text).toContain("everything else went from 93.0 % to 93.1 %");
    expect(text).toContain("in 12 rounds");
    expect(text).toContain("5 min 56 s");
    expect(text).toContain("9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08");
    expect(text).toContain("fineTune.learningRate");
    expect(text).toContain("2 tensors (linear.weight, linear.bias) are excluded");
  });

  it("never claims what it cannot show", () => {
    for (const metrics of [sampleMetrics(), emptyMetrics()]) {
      expect(renderReport(metrics, [sampleImage(0)])).not.toMatch(/deleted|removed from|complian/i);
    }
  });

  it("shows samples as pictures with what the networks said", () => {
    const document = parse(renderReport(sampleMetrics(), [sampleImage(0), sampleImage(5)]));
    expect(document.querySelectorAll(".gallery img").length).toBe(2);
    const captions = Array.from(
      document.querySelectorAll(".prediction"),
      (node) => node.textContent,
    );
    expect(captions).toEqual(["cat → dog", "cat → cat"]);
    expect(document.querySelectorAll(".gallery .lost").length).toBe(1);
  });

  it("tells in words of a sample that is no picture, and how many samples it leaves out", () => {
    const odd = sampleImage(1, { channels: 12, pixels: new Uint8Array(32 * 32 * 12) });
    expect(textOf(sampleMetrics(), [odd])).toContain("12 channels, 32 × 32: no picture");
    const many = Array.from({ length: 60 }, (_, i) => sampleImage(i));
    expect(textOf(sampleMetrics(), many)).toContain("12 more samples are not shown");
  });
});

describe("tiles", () => {
  function tileOf(metrics: RunMetrics): { readonly text: string; readonly caution: boolean } {
    const tiles = Array.from(parse(renderReport(metrics, [])).querySelectorAll(".tile"));
    const tile = tiles[1]!;
    return {
      text: Array.from(tile.children, (part) => part.textContent?.trim()).join(" | "),
      caution: tile.getAttribute("class") === "tile caution",
    };
  }
  const probed = (forget: number | null, retrained: RunMetrics["retrained"]) => {
    const { after } = sampleMetrics();
    const probe = forget === null ? null : { forget, remain: 0.9 };
    return tileOf(sampleMetrics({ after: { ...after, probe }, retrained }));
  };

  it("warn beside the output's accuracy of what the probe still finds", () => {
    expect(tileOf(sampleMetrics())).toEqual({
      text: "Forgotten, found by a linear probe | 86.2 % → 77.4 % | still in the features; retrained: 70.2 %",
      caution: true,
    });
  });

  it("do not warn where the probe finds no more than retrained, or less than before", () => {
    const { retrained } = sampleMetrics();
    expect(probed(0.71, retrained)).toEqual({
      text: "Forgotten, found by a linear probe | 86.2 % → 71.0 % | no more than retrained; retrained: 70.2 %",
      caution: false,
    });
    expect(probed(0.2, null)).toEqual({
      text: "Forgotten, found by a linear probe | 86.2 % → 20.0 % | less than before",
      caution: false,
    });
  });

  it("say when nobody probed", () => {
    expect(probed(null, null).text).toBe(
      "Forgotten, found by a linear probe | not probed | what the features still hold is not known",
    );
  });
});

describe("where the mask falls", () => {
  function stagesOf(metrics: RunMetrics): string[][] {
    const section = Array.from(parse(renderReport(metrics, [])).querySelectorAll("section")).find(
      (candidate) => candidate.querySelector("h2")?.textContent === "Where the mask falls",
    );
    const rows = section?.querySelectorAll("table.stages tbody tr") ?? [];
    return Array.from(rows, (row) => [
      // The third cell is the bar.
      ...Array.from(row.children, (cell) => cell.textContent ?? "").toSpliced(2, 1),
      row.querySelector(".bar span")?.getAttribute("style") ?? "",
    ]);
  }
  const masked = (perTensor: Readonly<Record<string, number>>) => {
    const sizes = Object.keys(perTensor).map((name) => [name, 100] as const);
    const units = Object.values(perTensor).reduce((sum, n) => sum + n, 0);
    const base = sampleMetrics().masked;
    return sampleMetrics({
      masked: { ...base, units, perTensor, perTensorTotal: Object.fromEntries(sizes) },
    });
  };

  it("groups tensors by stage, with the share of the mask as a bar", () => {
    const stages = stagesOf(sampleMetrics());
    expect(stages.map((row) => [row[0], row[3]])).toEqual([
      ["conv1", "1"],
      ["layer1", "6"],
      ["layer2", "6"],
      ["layer3", "6"],
      ["linear", "1"],
    ]);
    const { masked: mask } = sampleMetrics();
    const inLayer3 = Object.entries(mask.perTensor)
      .filter(([name]) => name.startsWith("layer3."))
      .reduce((sum, [, units]) => sum + units, 0);
    const percent = (100 * inLayer3) / mask.units;
    expect(stages[3]?.[1]).toBe(`${percent.toFixed(1)} %`);
    expect(stages[3]?.[4]).toBe(`width:${percent.toFixed(2)}%`);
    expect(stages[4]?.[4]).toBe("");
  });

  it("looks past a prefix that all names share", () => {
    const stages = stagesOf(
      masked({ "m.features.0.weight": 0, "m.features.3.weight": 10, "m.head.weight": 30 }),
    );
    expect(stages.map((row) => row.slice(0, 4))).toEqual([
      ["features", "25.0 %", "66.7 %", "2"],
      ["head", "75.0 %", "33.3 %", "1"],
    ]);
  });

  it("falls back to quarters of the network where names tell too many stages", () => {
    const names = Array.from({ length: 40 }, (_, i) => [`tensor${i}`, i >= 30 ? 3 : 0] as const);
    const stages = stagesOf(masked(Object.fromEntries(names)));
    expect(stages.map((row) => row.slice(0, 4))).toEqual([
      ["first quarter", "0.0 %", "25.0 %", "10"],
      ["second quarter", "0.0 %", "25.0 %", "10"],
      ["third quarter", "0.0 %", "25.0 %", "10"],
      ["last quarter", "100.0 %", "25.0 %", "10"],
    ]);
  });
});

describe("the course of a guarded run", () => {
  const guarded = () => {
    const { rounds } = sampleMetrics();
    return sampleMetrics({
      config: { selection: { kind: "guarded" } },
      rounds: rounds.map((round, i) => ({
        ...round,
        rejected: i % 4 === 3,
        probe: { forget: 0.9, remain: 0.9 },
      })),
    });
  };

  it("says where the remaining accuracy was measured, and which trials do not count", () => {
    const text = textOf(guarded());
    expect(text).toContain("The remaining accuracy is measured on occluded copies");
    const counted = { ...guarded(), watch: { judged: 500, watched: 1200, occlusion: 0.5 } };
    expect(textOf(counted)).toContain("on 1,200 occluded copies of training images");
    expect(text).toContain("Hollow marks off the line are trials that were undone.");
    expect(text).toContain("as long as it stays up, the class is hidden, not forgotten");
    expect(text).toContain("in 9 rounds (3 more trials undone)");
  });

  it("says nothing of copies where nothing was hidden of them", () => {
    const bare = { ...guarded(), config: { selection: { kind: "guarded", occlusion: 0 } } };
    expect(textOf(bare)).not.toContain("occluded");
    const seen = { ...guarded(), watch: { judged: 500, watched: 1200, occlusion: 0 } };
    expect(textOf(seen)).not.toContain("occluded");
  });

  it("says nothing of it for other runs", () => {
    expect(textOf(sampleMetrics())).not.toMatch(/occluded|undone|Hollow|dashed line/);
  });
});

describe("a run that measured nothing", () => {
  it("is a report of dashes, without plots", () => {
    const page = renderReport(emptyMetrics(), []);
    expectInert(page);
    expect(page).not.toMatch(/NaN|undefined|\bnull\b|\[object/);
    const document = parse(page);
    expect(document.querySelectorAll("svg").length).toBe(0);
    expect(document.querySelector(".findings")).toBeNull();
    const values = cellsOf(emptyMetrics())
      .slice(1)
      .flatMap((row) => row.slice(1));
    expect(new Set(values)).toEqual(new Set(["–", ""]));
    expect(textOf(emptyMetrics())).toContain("(no name), asked to forget the samples of (no name)");
    expect(textOf(emptyMetrics())).toContain("was not measured");
  });
});

describe("findings", () => {
  const withAfter = (changes: Partial<Snapshot>, rest: Partial<RunMetrics> = {}) =>
    sampleMetrics({ after: { ...sampleMetrics().after, ...changes }, ...rest });

  it("says when the probe still finds the class", () => {
    const missed = withAfter({ forget: { train: 0.234, test: 0.2 } });
    expect(textOf(missed)).toContain(
      "Still present in the features. A linear probe on the features recognises it in 77.4 %",
    );
    expect(textOf(missed)).not.toMatch(/answers at the output|at the output only/);
  });

  it("never shows as forgotten what is hidden at the output", () => {
    const page = parse(renderReport(sampleMetrics(), []));
    const first = page.querySelector(".findings li");
    expect(first?.getAttribute("class")).toBe("caution");
    expect(first?.textContent).toMatch(/^Forgotten at the output only\. The written network still/);
    expect(first?.textContent).toContain("recognises it in 77.4 % of the test samples");
    expect(page.querySelectorAll(".findings .good").length).toBe(0);
    expect(page.body.textContent).not.toContain("The target was reached");
    expect(page.body.textContent).toContain("the features still tell the forgotten class apart");
  });

  it("says when the probe finds no more than in the retrained network", () => {
    const text = textOf(withAfter({ probe: { forget: 0.71, remain: 0.9 } }));
    expect(text).toContain("tell no more than those of a retrained network");
    expect(text).toContain("The target was reached. The written network");
    expect(text).not.toContain("still present in the features");
  });

  it("does not take a weakened probe for a kept class", () => {
    const text = textOf(withAfter({ probe: { forget: 0.2, remain: 0.9 } }, { retrained: null }));
    expect(text).not.toContain("still present in the features");
    expect(text).toContain("The features were changed.");
  });

  it("says when nobody probed", () => {
    const page = parse(renderReport(withAfter({ probe: null }), []));
    expect(page.body.textContent).toContain("The features were not probed.");
    expect(page.body.textContent).toContain("The target was reached at the output.");
    expect(page.querySelectorAll(".findings .good").length).toBe(0);
  });

  it("says when the target was not reached, by guessing or by the configuration", () => {
    const missed = textOf(withAfter({ forget: { train: 0.234, test: 0.2 } }));
    expect(missed).toContain("The target was not reached. The written network still labels 23.4 %");
    const strict = textOf(sampleMetrics({ config: { target: 0.005 } }));
    expect(strict).toContain("The target was not reached.");
    expect(strict).toContain("the target of the configuration is 0.5 %");
  });

  it("judges no target where samples of all classes were to be forgotten", () => {
    const { data } = sampleMetrics();
    const text = textOf(
      sampleMetrics({ data: { ...data, forget: "random:0.1", forgetClasses: [] } }),
    );
    expect(text).not.toMatch(/The target was/);
    expect(text).toContain("the samples of random:0.1");
  });

  const withMask = (perTensor: Readonly<Record<string, number>>, size = 1000) => {
    const { masked } = sampleMetrics();
    const units = Object.values(perTensor).reduce((sum, n) => sum + n, 0);
    const perTensorTotal = Object.fromEntries(Object.keys(perTensor).map((name) => [name, size]));
    return { ...masked, units, perTensor, perTensorTotal };
  };

  it("says when the mask sits next to the output, by the order of the tensors", () => {
    const names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    const mask = (last: number) =>
      withMask(Object.fromEntries(names.map((name, i) => [name, i < 6 ? 0 : last])));
    const deep = textOf(sampleMetrics({ masked: mask(50) }));
    expect(deep).toContain(
      "The mask sits next to the output. 100.0 % of the masked weights are in the last 2 tensors of 8",
    );
    const spread = withMask({ ...mask(45).perTensor, a: 10 });
    expect(textOf(sampleMetrics({ masked: spread }))).not.toContain("next to the output");
    expect(textOf(sampleMetrics())).not.toContain("next to the output");
  });

  it("says when most of the mask sits in the last tensor", () => {
    const { masked } = sampleMetrics();
    const perTensor = { "conv.weight": 10, "linear.weight": 90 };
    const perTensorTotal = { "conv.weight": 1000, "linear.weight": 640 };
    const text = textOf(
      sampleMetrics({ masked: { ...masked, units: 100, perTensor, perTensorTotal } }),
    );
    expect(text).toContain("Most of the mask is in the last tensor. 90.0 % of the masked weights");
  });
});

describe("hostile strings", () => {
  const kHostile = [
    "<script>alert(1)</script>",
    `"><img src=x onerror=alert(1)>`,
    "' onmouseover='alert(1)",
    "</title></style></svg><script>alert(1)</script>",
    "<!--<script>]]>",
    "cat\u202Egpj.exe\u2066",
    "\u0000\u001B[31m\uD800",
    "constructor",
    "__proto__",
    "&lt;script&gt;",
  ];
  const kHuge = "N".repeat(1 << 20);

  function hostileMetrics(evil: string): RunMetrics {
    const base = sampleMetrics();
    const classes = base.data.classes.map((_, i) => (i === 3 ? evil : `${evil}${i}`));
    const rename = (snapshot: Snapshot | null): Snapshot => ({
      ...snapshot!,
      perClass: {
        train: [],
        test: snapshot!.perClass.test.map((score, i) => ({ ...score, name: classes[i]! })),
      },
    });
    const named = (value: number) =>
      Object.fromEntries([
        [`${evil}.w`, value],
        [evil, value + 1],
      ]);
    return {
      ...base,
      fishermask: evil,
      createdAt: evil,
      device: { requested: evil, used: evil, threads: 2 },
      model: { arch: evil, file: evil, sha256: evil, parameters: 1 },
      data: { ...base.data, source: evil, forget: evil, classes },
      method: evil,
      preset: evil,
      config: { [evil]: evil, nested: { [evil]: [evil, { deep: evil }] } },
      before: rename(base.before),
      after: rename(base.after),
      maskedOnly: rename(base.maskedOnly),
      retrained: rename(base.retrained),
      masked: { ...base.masked, criterion: evil, perTensor: named(5), perTensorTotal: named(50) },
      stages: [{ name: evil, seconds: 1 }],
      warnings: [evil],
    };
  }

  it.each(kHostile)("are text and nothing else: %j", (evil) => {
    const page = renderReport(hostileMetrics(evil), [
      sampleImage(0, { label: evil, before: evil, after: evil }),
    ]);
    expectInert(page);
    expect(parse(page).querySelectorAll("script").length).toBe(0);
    expect(page).not.toMatch(/<script/i);
    expect(page).not.toMatch(/[\p{Bidi_Control}\p{Cs}]/u);
    expect(page.replaceAll("\n", "")).not.toMatch(/\p{Cc}/u);
  });

  it("are shown as they are, where they are harmless", () => {
    const text = textOf(hostileMetrics("<b>bold</b>"));
    expect(text).toContain("asked to forget the class “<b>bold</b>”");
  });

  it("do not make the report grow with their length", () => {
    const page = renderReport(hostileMetrics(kHuge), [
      sampleImage(0, { label: kHuge, before: kHuge, after: kHuge }),
    ]);
    expectInert(page);
    expect(page.length).toBeLessThan(250_000);
    expect(page.includes("N".repeat(700))).toBe(false);
  });
});
