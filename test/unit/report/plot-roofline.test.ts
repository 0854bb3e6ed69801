/// <reference lib="dom" />
import { parseHTML } from "linkedom";
import { describe, expect, it } from "vitest";
import { plotDoubling } from "../../../src/report/plot-doubling.js";
import { plotRoofline, type Roofline } from "../../../src/report/plot-roofline.js";
import { standaloneSvg } from "../../../src/report/standalone-svg.js";

const roofline: Roofline = {
  title: "kernels <of> a test",
  gemmGflops: 200,
  copyGBps: 25,
  points: [
    { name: "conv 3x3", group: "convolutions", intensity: 64, gflops: 160 },
    { name: "conv 1x1", group: "convolutions", intensity: 16, gflops: 100 },
    { name: "vectors", group: "linear layers", intensity: 1, gflops: 20 },
  ],
};

function draw(svg: string | null) {
  const { document } = parseHTML(`<!doctype html><html><body>${svg}</body></html>`);
  const marks = (label: string) => [...document.querySelectorAll(`[aria-label="${label}"]`)];
  return { document, marks, text: document.body.textContent ?? "" };
}

/** Where a mark stands: circles say it by their centre, other symbols by a `transform`. */
function placeOf(mark: Element | undefined): { x: number; y: number } {
  const transform = /translate\(([-\d.]+),([-\d.]+)\)/.exec(mark?.getAttribute("transform") ?? "");
  const [x, y] = [mark?.getAttribute("cx"), mark?.getAttribute("cy")];
  return { x: Number(x ?? transform?.[1]), y: Number(y ?? transform?.[2]) };
}

describe("plotRoofline", () => {
  it("marks every point, numbers it, and lists its rate", () => {
    const { marks, text } = draw(plotRoofline(roofline));
    for (const { name } of roofline.points) expect(marks(name)).toHaveLength(1);
    expect(marks("number in the list")).toHaveLength(3);
    for (const word of ["conv 3x3", "160", "GEMM 200 GFLOP/s", "copy 25 GB/s"])
      expect(text).toContain(word);
  });

  it("puts points where their figures say, on log axes", () => {
    const { marks } = draw(plotRoofline(roofline));
    const mark = (name: string) => placeOf(marks(name)[0] as Element);
    // Four times the intensity: two of the steps that the whole axis has between powers of two.
    const step = (mark("conv 3x3").x - mark("conv 1x1").x) / 2;
    expect((mark("conv 1x1").x - mark("vectors").x) / step).toBeCloseTo(4, 1);
    expect(mark("conv 3x3").y).toBeLessThan(mark("conv 1x1").y);
    const octave = (mark("vectors").y - mark("conv 1x1").y) / Math.log2(100 / 20);
    expect((mark("conv 1x1").y - mark("conv 3x3").y) / octave).toBeCloseTo(Math.log2(1.6), 1);
  });

  it("bends the ceilings where copy and GEMM meet", () => {
    const { marks } = draw(plotRoofline(roofline));
    const path = marks("ceilings")[0]?.getAttribute("d") ?? "";
    const corners = [...path.matchAll(/[ML]([-\d.]+),([-\d.]+)/g)].map(([, x, y]) => [
      Number(x),
      Number(y),
    ]);
    expect(corners).toHaveLength(3);
    const [start, ridge, end] = corners as [number[], number[], number[]];
    expect(ridge[1]).toBe(end[1]);
    expect(start[1]).toBeGreaterThan(ridge[1] as number);
  });

  it("draws work that is all bound by arithmetic, and machines of another scale", () => {
    const points = [{ name: "p", group: "g", intensity: 900, gflops: 1e5 }];
    const svg = plotRoofline({ ...roofline, points, gemmGflops: 2e5, copyGBps: 3000 });
    expect(svg).not.toMatch(/NaN|Infinity|undefined/);
    expect(draw(svg).marks("p")).toHaveLength(1);
  });

  it("is null without points", () => {
    expect(plotRoofline({ ...roofline, points: [] })).toBeNull();
  });
});

describe("plotDoubling", () => {
  const points = [1, 2, 4, 8].map((factor) => ({ size: 64 * factor, seconds: 0.1 * factor }));
  const plot = { title: "samples", axis: "samples", points, logSlope: 1 };

  it("labels every size and lies on the line of linear cost where cost is linear", () => {
    const { marks, text } = draw(plotDoubling(plot));
    for (const { size } of points) expect(text).toContain(String(size));
    expect(text).toContain("log slope 1");
    const linear = marks("linear cost")[0]?.getAttribute("d") ?? "";
    const dots = marks("measured").map((circle) => [
      circle.getAttribute("cx"),
      circle.getAttribute("cy"),
    ]);
    expect(dots).toHaveLength(4);
    for (const [x, y] of dots) expect(linear).toContain(`${x},${y}`);
  });

  it("is null below two sizes", () => {
    expect(plotDoubling({ ...plot, points: points.slice(0, 1) })).toBeNull();
  });
});

describe("standaloneSvg", () => {
  const svg = standaloneSvg(plotRoofline(roofline) ?? "");

  it("is one well-formed image of plain colours, with a surface and no script", () => {
    expect(svg).toMatch(/^<svg [^<]* viewBox="-16 -16 932 \d+"/);
    expect(svg).toMatch(/^<svg [^<]* width="932"/);
    expect(svg).toContain('xmlns="http://www.w3.org/2000/svg"');
    expect(svg).not.toMatch(/var\(|<script|href=|url\(/);
    expect(svg.match(/<svg\b/g)?.length).toBe(svg.match(/<\/svg>/g)?.length);
    // No "<" within an attribute, which XML does not allow.
    expect(svg).not.toMatch(/="[^"]*<[^"]*"/);
    expect(svg).toContain("kernels &lt;of&gt; a test</title>");
  });

  it("knows a dark form of every colour that it uses", () => {
    const [, rules = ""] = /<style>(.*?)<\/style>/.exec(svg) ?? [];
    const used = new Set([...svg.matchAll(/(?:fill|stroke)="(#[0-9a-f]+)"/g)].map(([, c]) => c));
    expect(used.size).toBeGreaterThan(3);
    for (const colour of used) expect(rules).toContain(`[fill="${colour}"]{fill:#`);
    expect(rules).toContain("prefers-color-scheme:dark");
  });

  it("leaves what is no plot as it is", () => {
    expect(standaloneSvg("<p>none</p>")).toBe("<p>none</p>");
  });
});
