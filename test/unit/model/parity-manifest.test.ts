import { createHash } from "node:crypto";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";

const kFolder = "test/fixtures/parity";
// The scripts whose files these are; other oracles may enter theirs beside them.
const kScripts = [
  "ops.py",
  "fisher.py",
  "resnet20_fisher.py",
  "torchvision_fisher.py",
  "transformers.py",
  "onnx_models.py",
];

interface Entry {
  readonly torch: string;
  readonly sha256: Readonly<Record<string, string>>;
}

const kManifest = JSON.parse(readFileSync(join(kFolder, "MANIFEST.json"), "utf8")) as Readonly<
  Record<string, Entry>
>;

describe("the parity fixtures", () => {
  it.each(kScripts)("of %s are those that the manifest records", (script) => {
    const files = Object.entries(kManifest[script]?.sha256 ?? {});
    expect(files.length).toBeGreaterThan(0);
    for (const [file, digest] of files) {
      const bytes = readFileSync(join(kFolder, file));
      expect(createHash("sha256").update(bytes).digest("hex"), file).toBe(digest);
    }
  });

  it("hold no file of these folders that the manifest does not name", () => {
    const named = new Set(Object.values(kManifest).flatMap((entry) => Object.keys(entry.sha256)));
    for (const folder of ["ops", "fisher", "resnet20", "torchvision", "onnx"]) {
      for (const file of readdirSync(join(kFolder, folder))) {
        expect(named).toContain(`${folder}/${file}`);
        expect(statSync(join(kFolder, folder, file)).size).toBeLessThan(200_000);
      }
    }
  });
});
