import type sharp from "sharp";
import { FishermaskError } from "../../native/errors.js";

export type Sharp = typeof sharp;

// GHSA-f88m-g3jw-g9cj is fixed from here on.
const kLeastVersion = [0, 35, 3] as const;

function refuse(received: string, cause?: unknown): FishermaskError {
  return new FishermaskError(
    "ERR_FM_UNSUPPORTED",
    `Expected the package sharp ${kLeastVersion.join(".")} or newer for encoded images but received ${received}; ` +
      "npm install sharp",
    cause === undefined ? {} : { cause },
  );
}

function isOld(version: string): boolean {
  const numbers = version.split(/[.-]/, 3).map(Number);
  const differing = kLeastVersion.findIndex((least, i) => numbers[i] !== least);
  return differing >= 0 && (numbers[differing] as number) < (kLeastVersion[differing] as number);
}

/**
 * The optional peer `sharp`, loaded when the first image is to be decoded. None of its process-wide settings is touched:
 * the program around this library may use it for other formats.
 *
 * @param load imports it
 * @throws {@link FishermaskError} `ERR_FM_UNSUPPORTED` where it is not installed, does not load here, or is too old
 */
export async function loadSharp(
  load: () => Promise<{ default: Sharp }> = () => import("sharp"),
): Promise<Sharp> {
  let found: Sharp;
  try {
    found = (await load()).default;
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    throw refuse(code === "ERR_MODULE_NOT_FOUND" ? "none" : `a failure (${message})`, cause);
  }
  const version = found.versions.sharp ?? "0";
  if (isOld(version)) throw refuse(version);
  return found;
}
