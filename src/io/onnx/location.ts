/**
 * Brings the location of an external data file into one form, without "." and empty parts.
 *
 * @param location as the file gives it: a POSIX path relative to the model's folder
 * @returns the location, or null where it is absolute, has a "..", a backslash, a drive or a NUL, or names no file
 */
export function normalLocation(location: string): string | null {
  if (/^\/|^[A-Za-z]:|\\|\0|\/\.?$/.test(location)) {
    return null;
  }
  const parts = location.split("/").filter((part) => part !== "" && part !== ".");
  return parts.length === 0 || parts.includes("..") ? null : parts.join("/");
}
