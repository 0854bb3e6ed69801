import { describe, expect, it } from "vitest";
// @ts-expect-error A script without declarations.
import * as script from "../../../cuda/ptxas-report.mjs";

interface Kernel {
  readonly name: string;
  readonly target: string;
  readonly source: string;
  readonly registers: number;
  readonly sharedBytes: number;
  readonly stackBytes: number;
  readonly spillStoreBytes: number;
  readonly spillLoadBytes: number;
}
interface Report {
  parsePtxas(text: string, source: string): { kernels: Kernel[]; losses: string[] };
  parseHotList(text: string): RegExp[];
  findFaults(kernels: readonly Kernel[], losses: readonly string[], patterns: RegExp[]): string[];
  tableOf(kernels: readonly Kernel[], patterns: RegExp[]): string;
}
const report = script as Report;

// As ptxas of CUDA 13.0 prints it.
const kSaid = `ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'tile' for 'sm_80'
ptxas info    : Function properties for tile
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 10 registers, used 1 barriers, 256 bytes smem, 360 bytes cmem[0]
ptxas info    : Compile time = 21.606 ms
ptxas info    : Compiling entry function 'tile' for 'sm_90a'
ptxas info    : (C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized due to x in function 'tile'
ptxas info    : Function properties for tile
    280 bytes stack frame, 320 bytes spill stores, 316 bytes spill loads
ptxas info    : Function properties for helper
    8 bytes stack frame, 4 bytes spill stores, 4 bytes spill loads
ptxas info    : Used 32 registers, used 1 barriers, 280 bytes cumulative stack size
ptxas info    : Compiling entry function 'copy' for 'sm_80'
ptxas info    : Function properties for copy
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 8 registers, used 0 barriers
`;
const { kernels, losses } = report.parsePtxas(kSaid, "tile.cu");

describe("the report of what ptxas said", () => {
  it("reads registers, shared memory and spills of each kernel and target", () => {
    expect(kernels.map(({ name, target, registers }) => [name, target, registers])).toEqual([
      ["tile", "sm_80", 10],
      ["tile", "sm_90a", 32],
      ["copy", "sm_80", 8],
    ]);
    expect(kernels.map(({ sharedBytes }) => sharedBytes)).toEqual([256, 0, 0]);
    // With what a function that it calls spills.
    expect(kernels[1]).toMatchObject({
      stackBytes: 280,
      spillStoreBytes: 324,
      spillLoadBytes: 320,
    });
  });

  it("finds spills of hot kernels, targets that lack one, and serialised wgmma", () => {
    const faults = report.findFaults(
      kernels,
      losses,
      report.parseHotList("# hot\n\n^tile\ncopy\n"),
    );
    expect(faults).toHaveLength(3);
    expect(faults[0]).toContain("wgmma.mma_async instructions are serialized");
    expect(faults[1]).toContain("tile spills for sm_90a: 324 bytes stored, 320 loaded");
    expect(faults[2]).toContain("/copy/ of the hot kernels matches no kernel for sm_90a");
  });

  it("finds nothing wrong with kernels that are not hot", () => {
    expect(report.findFaults(kernels.slice(0, 1), [], [/tile/])).toEqual([]);
    expect(report.findFaults(kernels, [], [])).toEqual([]);
  });

  it("refuses patterns that match nothing, and an empty report", () => {
    expect(report.findFaults(kernels, [], [/gone/])).toEqual([
      "/gone/ of the hot kernels matches no kernel",
    ]);
    expect(report.findFaults([], [], [])).toEqual(["no kernel was found"]);
  });

  it("marks hot kernels and those that spill in the table", () => {
    const lines = report.tableOf(kernels, [/tile/]).split("\n");
    expect(lines[0]).toMatch(/sm_80 +sm_90a$/);
    expect(lines[1]).toMatch(/^\* tile.cu: tile +10 \/ 256 +32 \/ 0!$/);
    expect(lines[2]).toMatch(/^ {2}tile.cu: copy +8 \/ 0 +-$/);
  });
});
