import { writeFile } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import { sha256Bytes, sha256File } from "../../../src/io/digest.js";
import { expectError, temporaryFolder } from "./support.js";

const at = temporaryFolder();
// FIPS 180-2, appendix B.1.
const kAbc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
// FIPS 180-2, appendix B.3: a million times "a".
const kMillion = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";

describe("sha256", () => {
  it("gives the standard's digests", async () => {
    expect(sha256Bytes(new TextEncoder().encode("abc"))).toBe(kAbc);
    await writeFile(at("million"), "a".repeat(1_000_000));
    expect(await sha256File(at("million"))).toBe(kMillion);
  });

  it("names a file that cannot be read", async () => {
    await expectError(() => sha256File(at("none")), "ERR_FM_IO", at("none"), "ENOENT");
  });
});
