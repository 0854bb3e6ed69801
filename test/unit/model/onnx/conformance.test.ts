import { existsSync } from "node:fs";
import { cp, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import {
  findTests,
  reportOf,
  runConformance,
  runTest,
} from "../../../../src/model/onnx/conformance.js";
import { modelOf, node, packedFloats, tensor } from "../../io/onnx/writer.js";
import { temporaryFolder } from "../../io/support.js";

const at = temporaryFolder();

async function testFolder(
  name: string,
  opType: string,
  output: readonly number[],
): Promise<string> {
  const folder = at(name);
  const data = join(folder, "test_data_set_0");
  await mkdir(data, { recursive: true });
  await writeFile(join(folder, "model.onnx"), modelOf({ nodes: [node(opType, ["x"], ["y"])] }));
  const x = tensor("x", "float", [1, 4], packedFloats([-1, 0, 1, 2]));
  await writeFile(join(data, "input_0.pb"), x);
  const y = tensor("y", "float", [1, 4], packedFloats(output));
  await writeFile(join(data, "output_0.pb"), y);
  return folder;
}

describe("runTest", () => {
  it("passes what is computed rightly", async () => {
    const folder = await testFolder("right", "Relu", [0, 0, 1, 2]);
    expect(await runTest(folder, "right")).toEqual({
      name: "right",
      operator: "Relu",
      result: "pass",
      reason: null,
      maxRelativeError: 0,
    });
  });

  it("says what differs, and where", async () => {
    const folder = await testFolder("different", "Relu", [0, 0, 1, 3]);
    expect(await runTest(folder, "different")).toMatchObject({
      result: "wrong",
      reason: expect.stringMatching(/y\[3\] is 2 instead of 3/),
    });
  });

  it("refuses what the importer refuses, and files that are broken", async () => {
    const folder = await testFolder("unknown", "NobodyKnowsThis", [0, 0, 0, 0]);
    expect(await runTest(folder, "unknown")).toMatchObject({
      result: "refused",
      reason: expect.stringMatching(/ERR_FM_UNSUPPORTED.*NobodyKnowsThis/),
    });
    await writeFile(join(folder, "model.onnx"), Uint8Array.of(255, 255));
    expect(await runTest(folder, "broken")).toMatchObject({
      result: "refused",
      reason: expect.stringMatching(/ERR_FM_BAD_FILE/),
    });
  });

  it("finds tests at any depth and reports their counts alone", async () => {
    await cp(at("right"), at("deep/er/right"), { recursive: true });
    await cp(at("different"), at("deep/different"), { recursive: true });
    expect(await findTests(at("deep"))).toHaveLength(2);
    const report = reportOf(await runConformance(at("deep")));
    expect({ ...report, tests: report.tests.map(({ name }) => name) }).toEqual({
      total: 2,
      pass: 1,
      refused: 0,
      wrong: 1,
      tests: ["different", "er/right"],
    });
    expect(Object.keys(report.tests[0] ?? {})).toEqual([
      "name",
      "result",
      "reason",
      "maxRelativeError",
    ]);
  });
});

const kBackendTests = "/usr/share/libonnx-testdata/data";

// Debian's libonnx-testdata: ONNX 1.12's own backend tests.
describe.skipIf(!existsSync(kBackendTests))(
  `ONNX's backend tests (skipped without ${kBackendTests})`,
  () => {
    it("gives no wrong result", { timeout: 600_000 }, async () => {
      const { wrong, pass, tests } = reportOf(await runConformance(kBackendTests));
      expect(tests.filter(({ result }) => result === "wrong")).toEqual([]);
      expect(wrong).toBe(0);
      expect(pass).toBeGreaterThan(0);
    });
  },
);
