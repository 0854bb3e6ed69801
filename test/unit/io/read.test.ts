import { mkdir, truncate, writeFile } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import { openRegularFile, readExactly, readTextFile } from "../../../src/io/read.js";
import { expectError, temporaryFolder, writeBytes } from "./support.js";

const at = temporaryFolder();

describe("openRegularFile and readExactly", () => {
  it("reads a part and tells when the file has become shorter", async () => {
    const path = await writeBytes(at("part"), new Uint8Array([1, 2, 3, 4, 5]));
    const file = await openRegularFile(path);
    const target = new Uint8Array(2);
    await readExactly(file, 2, target);
    expect([...target]).toEqual([3, 4]);
    await truncate(path, 3);
    await expectError(() => readExactly(file, 2, target), "ERR_FM_BAD_FILE", path, "3 bytes");
    await file.handle.close();
  });

  it("refuses a missing file and a folder", async () => {
    await mkdir(at("folder"));
    await expectError(() => openRegularFile(at("none")), "ERR_FM_IO", at("none"), "ENOENT");
    await expectError(() => openRegularFile(at("folder")), "ERR_FM_IO", "not a regular file");
    await expectError(() => openRegularFile("/dev/zero"), "ERR_FM_IO", "not a regular file");
  });
});

describe("readTextFile", () => {
  it("reads UTF-8 without its byte order mark", async () => {
    await writeFile(at("text"), "\ufeffgrüße");
    expect(await readTextFile(at("text"), 100)).toBe("grüße");
  });

  it("refuses what is too large or no UTF-8", async () => {
    await writeFile(at("large"), "12345");
    await expectError(
      () => readTextFile(at("large"), 4),
      "ERR_FM_BAD_FILE",
      "at most 4 bytes",
      "5",
    );
    await writeBytes(at("latin"), new Uint8Array([0x67, 0xfc]));
    await expectError(() => readTextFile(at("latin"), 9), "ERR_FM_BAD_FILE", at("latin"), "UTF-8");
  });
});
