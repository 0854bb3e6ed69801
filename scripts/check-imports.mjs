#!/usr/bin/env node
// The directions of the TypeScript rooms: cli -> report, unlearn, evaluate, train -> model, data, io -> native.
//   node scripts/check-imports.mjs [ROOT]    exit 1 with one line per breach; ROOT holds src/
// A file imports from its own tier or the tiers below it. Only src/native loads the addon. Of the files right in src/,
// index.ts gathers what the rooms export and the others (version.ts) are below every room.
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve, sep } from "node:path";
import { fileURLToPath } from "node:url";

const TIERS = [["native"], ["model", "data", "io"], ["report", "unlearn", "evaluate", "train"], ["cli"]];
const ENTRY = "index";
const ENTRY_TIER = TIERS.length;
const BELOW_ALL = -1;
const ADDON_LOADERS = /^node-gyp-build$|\.node$/;

function tierOf(room) {
  if (room === ENTRY) return ENTRY_TIER;
  if (room === "") return BELOW_ALL;
  const tier = TIERS.findIndex((rooms) => rooms.includes(room));
  return tier === -1 ? undefined : tier;
}

// Anchored at the line's start: the examples in doc comments are no imports.
const STATIC = /^\s*(?:import|export)\b[^;"'`]*?(?:\bfrom\s*)?["']([^"']+)["']/gm;
const DYNAMIC = /\b(?:import|require)\s*\(\s*["']([^"']+)["']/g;

function importsOf(text) {
  return [...text.matchAll(STATIC), ...text.matchAll(DYNAMIC)].map((match) => match[1]);
}

// "io" for src/io/read.ts, "index" for src/index.ts, "" for the other files right in src/.
function roomOf(src, file) {
  const parts = relative(src, file).split(sep);
  if (parts.length > 1) return parts[0];
  return /^index\.[jt]s$/.test(parts[0]) ? ENTRY : "";
}

function breachOf(src, file, specifier) {
  const room = roomOf(src, file);
  if (ADDON_LOADERS.test(specifier)) {
    return room === "native" ? undefined : `loads the addon (${specifier}); only src/native may`;
  }
  if (!specifier.startsWith(".")) return undefined;
  const target = resolve(dirname(file), specifier);
  if (relative(src, target).startsWith("..")) return `imports ${specifier}, outside of src/`;
  const targetRoom = roomOf(src, target);
  const from = tierOf(room);
  const to = tierOf(targetRoom);
  if (from === undefined) return `is in a room without a tier: add ${room} to scripts/check-imports.mjs`;
  if (to === undefined || to <= from) return undefined;
  return `imports ${specifier}: ${room || "a file below all rooms"} may not use ${targetRoom}`;
}

function main() {
  const root = resolve(process.argv[2] ?? join(dirname(fileURLToPath(import.meta.url)), ".."));
  const src = join(root, "src");
  const files = readdirSync(src, { recursive: true }).filter((file) => /\.[mc]?tsx?$/.test(file));
  let breaches = 0;
  for (const name of files.sort()) {
    const file = join(src, name);
    for (const specifier of importsOf(readFileSync(file, "utf8"))) {
      const breach = breachOf(src, file, specifier);
      if (breach === undefined) continue;
      breaches += 1;
      console.error(`${relative(root, file)} ${breach}`);
    }
  }
  if (files.length === 0) {
    console.error(`no TypeScript files in ${src}`);
    process.exitCode = 1;
  }
  if (breaches > 0) process.exitCode = 1;
}

main();
