#!/usr/bin/env node
// The directions of the TypeScript rooms: cli -> report, unlearn, evaluate, train -> model, data, io -> native.
//   node scripts/check-imports.mjs [ROOT]    exit 1 with one line per breach; ROOT holds src/
// A file imports from its own tier or the tiers below it. Only src/native loads the addon; others may use the types of
// src/native/addon.ts but call through its neighbours.
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve, sep } from "node:path";
import { fileURLToPath } from "node:url";

const TIERS = [["native"], ["model", "data", "io"], ["report", "unlearn", "evaluate", "train"], ["cli"]];
// Files right in src/ (the package's entry) gather what the rooms export.
const ENTRY_TIER = TIERS.length;
const ADDON_LOADERS = /^node-gyp-build$|\.node$/;

function tierOf(room) {
  if (room === "") return ENTRY_TIER;
  const tier = TIERS.findIndex((rooms) => rooms.includes(room));
  return tier === -1 ? undefined : tier;
}

// Anchored at the line's start: the examples in doc comments are no imports.
const STATIC = /^\s*(?:import|export)\b[^;"'`]*?(?:\bfrom\s*)?["']([^"']+)["']/gm;
const DYNAMIC = /\b(?:import|require)\s*\(\s*["']([^"']+)["']/g;

function importsOf(text) {
  return [...text.matchAll(STATIC), ...text.matchAll(DYNAMIC)].map(([statement, specifier]) => ({
    specifier,
    typeOnly: /^\s*(?:import|export)\s+type\b/.test(statement),
  }));
}

// "io" for src/io/read.ts, "" for a file right in src/.
function roomOf(src, file) {
  const parts = relative(src, file).split(sep);
  return parts.length === 1 ? "" : parts[0];
}

function breachOf(src, file, { specifier, typeOnly }) {
  const room = roomOf(src, file);
  if (ADDON_LOADERS.test(specifier)) {
    return room === "native" ? undefined : `loads the addon (${specifier}); only src/native may`;
  }
  if (!specifier.startsWith(".")) return undefined;
  const target = resolve(dirname(file), specifier);
  if (relative(src, target).startsWith("..")) return `imports ${specifier}, outside of src/`;
  const targetRoom = roomOf(src, target);
  if (room !== "native" && !typeOnly && relative(src, target) === join("native", "addon.js")) {
    return `imports ${specifier}; only src/native may, but for types`;
  }
  const from = tierOf(room);
  const to = tierOf(targetRoom);
  if (from === undefined) return `is in a room without a tier: add ${room} to scripts/check-imports.mjs`;
  if (to === undefined || to <= from) return undefined;
  return `imports ${specifier}: ${room} may not use ${targetRoom || "the package's entry"}`;
}

function main() {
  const root = resolve(process.argv[2] ?? join(dirname(fileURLToPath(import.meta.url)), ".."));
  const src = join(root, "src");
  const files = readdirSync(src, { recursive: true }).filter((file) => /\.[mc]?tsx?$/.test(file));
  let breaches = 0;
  for (const name of files.sort()) {
    const file = join(src, name);
    for (const found of importsOf(readFileSync(file, "utf8"))) {
      const breach = breachOf(src, file, found);
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
