import { describe, expect, it } from "vitest";
import {
  formatCount,
  formatNumber,
  formatPercent,
  formatPoints,
  formatSeconds,
  formatShare,
} from "../../../src/report/format.js";
import { cleanText, escapeHtml } from "../../../src/report/text.js";

describe("figures", () => {
  it("writes percentages", () => {
    expect(formatPercent(0.9171)).toBe("91.7 %");
    expect(formatPercent(0.9171, 0)).toBe("92 %");
    expect(formatPercent(null)).toBe("–");
    expect(formatPercent(Number.NaN)).toBe("NaN");
  });

  it("keeps two leading digits of a small share", () => {
    expect(formatShare(0.0011)).toBe("0.11 %");
    expect(formatShare(0.000043)).toBe("0.0043 %");
    expect(formatShare(0.25)).toBe("25.0 %");
    expect(formatShare(0)).toBe("0.0 %");
  });

  it("signs differences, and leaves what rounds to nothing without a sign", () => {
    expect(formatPoints(0.012)).toBe("+1.2");
    expect(formatPoints(-0.825)).toBe("−82.5");
    expect(formatPoints(-0.0001)).toBe("0.0");
  });

  it("writes durations without a carry error", () => {
    expect(formatSeconds(0.0005)).toBe("0.5 ms");
    expect(formatSeconds(0.34)).toBe("340 ms");
    expect(formatSeconds(0.9996)).toBe("1.0 s");
    expect(formatSeconds(12.34)).toBe("12.3 s");
    expect(formatSeconds(59.97)).toBe("1 min 00 s");
    expect(formatSeconds(245)).toBe("4 min 05 s");
    expect(formatSeconds(3599.9)).toBe("1 h 00 min");
    expect(formatSeconds(7380)).toBe("2 h 03 min");
    expect(formatSeconds(null)).toBe("–");
  });

  it("writes counts and numbers", () => {
    expect(formatCount(268336)).toBe("268,336");
    expect(formatNumber(5.90412)).toBe("5.904");
    expect(formatNumber(1e-8)).toBe("1e-8");
    expect(formatNumber(1.234e-8)).toBe("1.23e-8");
    expect(formatNumber(1e10)).toBe("1e+10");
    expect(formatNumber(null)).toBe("–");
    expect(formatNumber(Number.POSITIVE_INFINITY)).toBe("Infinity");
  });
});

describe("cleanText", () => {
  it("blanks control, bidi and zero-width characters", () => {
    expect(cleanText("a\u202Eb\u2066c\u200Fd\u061Ce")).toBe("a b c d e");
    expect(cleanText("\u001B[31mred\n\tline\u2028end")).toBe("[31mred line end");
  });

  it("replaces lone surrogates and keeps whole ones", () => {
    expect(cleanText("x\uD800y 😀")).toBe("x\uFFFDy 😀");
  });

  it("cuts by code points, and fast", () => {
    expect(cleanText("😀😀😀😀", 3)).toBe("😀😀…");
    const start = performance.now();
    expect(cleanText("n".repeat(64 << 20), 10)).toBe(`${"n".repeat(9)}…`);
    expect(performance.now() - start).toBeLessThan(1000);
  });

  it("escapes what HTML reads", () => {
    expect(escapeHtml(`<a href="x">'&`)).toBe("&lt;a href=&quot;x&quot;&gt;&#39;&amp;");
  });
});
