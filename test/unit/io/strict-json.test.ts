import { describe, expect, it } from "vitest";
import { parseStrictJson, type StrictJson, StrictJsonError } from "../../../src/io/strict-json.js";

function plain(value: StrictJson): unknown {
  if (value instanceof Map) {
    return Object.fromEntries([...value].map(([key, item]) => [key, plain(item as StrictJson)]));
  }
  return Array.isArray(value) ? value.map(plain) : value;
}

describe("parseStrictJson", () => {
  it.each([
    "{}",
    "[]",
    ' { "a" : [ 1 , -2.5e3 , true , false , null , "x\\n\\u00e9\\\\" ] , "b" : { } } ',
    '{"\\"":"\\\\","\\\\":"\\\\\\""}',
    "0",
    "-0.5",
    '""',
  ])("agrees with JSON.parse on %s", (text) => {
    expect(plain(parseStrictJson(text, 8))).toEqual(JSON.parse(text));
  });

  it("keeps keys in order and treats none specially", () => {
    const value = parseStrictJson('{"z":1,"10":2,"2":3,"__proto__":{"a":1}}', 8);
    expect([...(value as ReadonlyMap<string, StrictJson>).keys()]).toEqual([
      "z",
      "10",
      "2",
      "__proto__",
    ]);
    expect(({} as Record<string, unknown>)["a"]).toBeUndefined();
  });

  it.each([
    ["", "no JSON value"],
    ["{", "no string"],
    ['{"a"', 'no ":"'],
    ['{"a":1', 'no "," or "}"'],
    ['{"a":1,}', "no string"],
    ["[1", 'no "," or "]"'],
    ["[1,]", "no JSON value"],
    ["[1 2]", 'no "," or "]"'],
    ['"abc', "without an end"],
    ['"abc\\"', "without an end"],
    ['"\\q"', "bad escape"],
    ['"a\nb"', "bad escape or control"],
    ['"\\ud800"', "surrogate"],
    ["01", "unexpected text"],
    ["1 x", "unexpected text"],
    ["+1", "no JSON value"],
    ["NaN", "no JSON value"],
    ["9007199254740992", "out of range"],
    ["-9007199254740992", "out of range"],
    ["1e999", "out of range"],
    ['{"a":1,"a":1}', '"a" appears twice'],
    ['{"a":1,"\\u0061":1}', '"a" appears twice'],
    ["[[[1]]]", "nesting deeper than 2"],
    ['{"a":{"b":{}}}', "nesting deeper than 2"],
  ])("refuses %j: %s", (text, problem) => {
    expect(() => parseStrictJson(text, 2)).toThrow(StrictJsonError);
    expect(() => parseStrictJson(text, 2)).toThrow(problem);
  });

  it("survives a long hostile string and deep nesting", () => {
    const long = "\\n".repeat(5_000_000);
    expect(parseStrictJson(`"${long}"`, 1)).toHaveLength(5_000_000);
    expect(() => parseStrictJson(`"${"\\".repeat(4_000_000)}`, 1)).toThrow("without an end");
    expect(() => parseStrictJson("[".repeat(1_000_000), 3)).toThrow("nesting");
  });
});
