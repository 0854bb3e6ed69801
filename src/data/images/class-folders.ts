import type { Dirent } from "node:fs";
import { readdir, realpath, stat } from "node:fs/promises";
import { extname, join, relative, sep } from "node:path";
import { attempt, badFile } from "../../io/file-error.js";
import { compareCodePoints } from "./code-points.js";

// `train/CLASS/images/x.JPEG` is 2 below the class at most in data sets of today; a ring of links ends here.
const kMaxDepth = 8;
const kEndings: ReadonlySet<string> = new Set([".png", ".jpg", ".jpeg", ".webp"]);
// What file managers leave behind.
const kIgnored = /^(?:\..*|thumbs\.db|desktop\.ini)$/i;

/** One class of a split, and where its images lie. */
export interface ClassFolder {
  readonly name: string;
  readonly path: string;
}

type Kind = "folder" | "file" | "other";

/** A folder and what no link may lead out of. */
export interface Root {
  readonly path: string;
  readonly real: string;
}

/** @throws {@link FishermaskError} `ERR_FM_IO` */
export async function openRoot(path: string): Promise<Root> {
  return { path, real: await attempt("open the folder", path, realpath(path)) };
}

async function checkInside(root: Root, path: string): Promise<void> {
  const target = await attempt("follow the link", path, realpath(path));
  if (target === root.real || target.startsWith(root.real + sep)) return;
  throw badFile(path, "the link", `a target inside of ${root.path}`, "one outside of it");
}

async function kindOf(root: Root, folder: string, entry: Dirent): Promise<Kind> {
  if (entry.isDirectory()) return "folder";
  if (entry.isFile()) return "file";
  if (!entry.isSymbolicLink()) return "other";
  const path = join(folder, entry.name);
  await checkInside(root, path);
  const found = await attempt("examine", path, stat(path));
  return found.isDirectory() ? "folder" : found.isFile() ? "file" : "other";
}

async function entriesOf(root: Root, folder: string): Promise<(readonly [string, Kind])[]> {
  const entries = await attempt(
    "open the folder",
    folder,
    readdir(folder, { withFileTypes: true }),
  );
  const seen = entries
    .filter(({ name }) => !kIgnored.test(name))
    .sort((a, b) => compareCodePoints(a.name, b.name));
  const kinds: (readonly [string, Kind])[] = [];
  for (const entry of seen) kinds.push([entry.name, await kindOf(root, folder, entry)]);
  return kinds;
}

/**
 * The folders right in a folder, in code point order of their names; files beside them (a README) are left alone.
 *
 * @throws {@link FishermaskError} `ERR_FM_BAD_FILE` naming a link that leads out of the root; `ERR_FM_IO`
 */
export async function classFolders(root: Root, folder: string): Promise<ClassFolder[]> {
  await checkInside(root, folder);
  const entries = await entriesOf(root, folder);
  return entries
    .filter(([, kind]) => kind === "folder")
    .map(([name]) => ({ name, path: join(folder, name) }));
}

async function collect(root: Root, folder: string, depth: number, into: string[]): Promise<void> {
  if (depth > kMaxDepth) {
    throw badFile(folder, "the folder", `at most ${kMaxDepth} folders in each other`, "more");
  }
  for (const [name, kind] of await entriesOf(root, folder)) {
    const path = join(folder, name);
    if (kind === "folder") await collect(root, path, depth + 1, into);
    else if (kind === "file" && kEndings.has(extname(name).toLowerCase())) into.push(path);
    else {
      const expected = `a file that ends in ${[...kEndings].join(", ")}`;
      throw badFile(
        path,
        "the name",
        expected,
        kind === "file" ? extname(name) || name : "no file",
      );
    }
  }
}

/**
 * The images of a class, in folders within it too, in code point order of their paths.
 *
 * @throws {@link FishermaskError} `ERR_FM_BAD_FILE` naming a link that leads out of the root, a file that is no image, or the
 * folder where there is none; `ERR_FM_IO`
 */
export async function imagesOfClass(root: Root, { path }: ClassFolder): Promise<string[]> {
  const paths: string[] = [];
  await collect(root, path, 0, paths);
  if (paths.length === 0) throw badFile(path, "the class folder", "at least one image", "none");
  const inOrder = paths.map((each) => [relative(path, each).replaceAll(sep, "/"), each] as const);
  return inOrder.sort(([a], [b]) => compareCodePoints(a, b)).map(([, each]) => each);
}
