import { describe, expect, it } from "vitest";
import {
  displayWidth,
  formatTable,
  type TableColumn,
  truncateToWidth,
} from "../../../src/cli/table.js";

type Row = readonly [string, string];
const kColumns: readonly TableColumn<Row>[] = [
  { header: "class", value: ([name]) => name },
  { header: "accuracy", align: "right", value: ([, figure]) => figure },
];

describe("formatTable", () => {
  it("aligns columns under a rule and leaves no space at a line's end", () => {
    const rows: Row[] = [
      ["cat", "1.1 %"],
      ["automobile", "100.0 %"],
    ];
    expect(formatTable(rows, kColumns).split("\n")).toEqual([
      "class       accuracy",
      "──────────  ────────",
      "cat            1.1 %",
      "automobile   100.0 %",
    ]);
  });

  it("is header and rule without rows, and nothing without columns", () => {
    expect(formatTable([], kColumns)).toBe("class  accuracy\n─────  ────────");
    expect(formatTable([["a", "b"] as Row], [])).toBe("");
  });

  it("counts wide characters as two cells and combining marks as none", () => {
    expect(displayWidth("猫")).toBe(2);
    expect(displayWidth("😀")).toBe(2);
    expect(displayWidth("e\u0301")).toBe(1);
    expect(displayWidth("👩‍👩‍👧")).toBe(2);
    expect(displayWidth("")).toBe(0);
    const lines = formatTable(
      [
        ["猫", "1"],
        ["cat!", "2"],
      ] as Row[],
      kColumns,
    ).split("\n");
    expect(new Set(lines.map(displayWidth))).toEqual(new Set([15]));
  });

  it("cuts wide cells and blanks terminal escapes", () => {
    const columns = [{ header: "name", maxWidth: 6, value: (name: string) => name }];
    const table = formatTable(["abcdefghij", "\u001B[2Jx\n\u202Ey", "猫猫猫猫"], columns);
    expect(table.split("\n").slice(2)).toEqual(["abcde…", "[2Jx y", "猫猫…"]);
    expect(truncateToWidth("abc", 3)).toBe("abc");
    expect(truncateToWidth("abc", 0)).toBe("");
  });
});
