// What ptxas said of every kernel, as one table and one JSON file, and a check of the kernels that the time goes into.
//     node cuda/ptxas-report.mjs BUILD-FOLDER REPORT.json [HOT-KERNELS.txt]
// Reads the *.o.ptxas that keep-ptxas.sh left beside the objects. Exit code 1: a hot kernel spills registers, is missing on
// a target that others are compiled for, or its wgmma was serialised; a pattern matches nothing; or nothing was found.
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const kHotList = join(dirname(fileURLToPath(import.meta.url)), "hot-kernels.txt");
const kTarget = /^ptxas info\s*: Compiling entry function '(\S+)' for '(\S+)'/;
const kStack =
  /^\s*(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads/;
const kProperties = /^ptxas info\s*: Function properties for (\S+)/;
const kUsed = /^ptxas info\s*: Used (\d+) registers/;
const kShared = /(\d+) bytes smem/;
// "(C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized due to … in function 'x'"
const kLoss = /Potential Performance Loss: (.*)/;

/** The kernels of one compiler run, in the order in which ptxas took them. */
export function parsePtxas(text, source) {
  const kernels = [];
  const losses = [];
  let kernel;
  // Properties of functions that were not inlined come between a kernel's lines.
  let own = false;
  for (const line of text.split("\n")) {
    const target = kTarget.exec(line);
    const properties = kProperties.exec(line);
    const stack = kStack.exec(line);
    const used = kUsed.exec(line);
    const loss = kLoss.exec(line);
    if (target) {
      kernel = { name: target[1], target: target[2], source, registers: -1, sharedBytes: 0 };
      Object.assign(kernel, { stackBytes: 0, spillStoreBytes: 0, spillLoadBytes: 0 });
      kernels.push(kernel);
    } else if (properties) {
      own = properties[1] === kernel?.name;
    } else if (stack && kernel) {
      // A function that a kernel calls spills for it.
      if (own) kernel.stackBytes = Number(stack[1]);
      kernel.spillStoreBytes += Number(stack[2]);
      kernel.spillLoadBytes += Number(stack[3]);
    } else if (used && kernel) {
      kernel.registers = Number(used[1]);
      kernel.sharedBytes = Number(kShared.exec(line)?.[1] ?? 0);
    } else if (loss) {
      losses.push(loss[1]);
    }
  }
  return { kernels, losses };
}

/** Patterns of the list, without comments and empty lines. */
export function parseHotList(text) {
  return text
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "" && !line.startsWith("#"))
    .map((line) => new RegExp(line));
}

/** What is wrong, one sentence each; `kernels` with their demangled `name`. */
export function findFaults(kernels, losses, patterns) {
  const faults = losses.map((loss) => `ptxas: ${loss}`);
  if (kernels.length === 0) faults.push("no kernel was found");
  const targets = [...new Set(kernels.map(({ target }) => target))];
  for (const pattern of patterns) {
    const hot = kernels.filter(({ name }) => pattern.test(name));
    if (hot.length === 0) faults.push(`${pattern} of the hot kernels matches no kernel`);
    for (const target of targets) {
      if (hot.length > 0 && !hot.some((kernel) => kernel.target === target)) {
        faults.push(`${pattern} of the hot kernels matches no kernel for ${target}`);
      }
    }
    for (const { name, target, spillStoreBytes, spillLoadBytes } of hot) {
      if (spillStoreBytes + spillLoadBytes > 0) {
        faults.push(`${name} spills for ${target}: ${spillStoreBytes} bytes stored, ${spillLoadBytes} loaded`);
      }
    }
  }
  return faults;
}

function filesBelow(folder) {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return filesBelow(path);
    return entry.name.endsWith(".o.ptxas") ? [path] : [];
  });
}

/** Names as written in the source; mangled where there is no c++filt. */
function demangle(names) {
  const run = spawnSync("c++filt", { input: names.join("\n"), encoding: "utf8" });
  return run.status === 0 ? run.stdout.trimEnd().split("\n") : names;
}

// Namespaces and the list of parameters are the same for all.
function shortName(name) {
  return name
    .replace(/\(anonymous namespace\)::/g, "")
    .replace(/fishermask::cuda::/g, "")
    .replace(/fishermask::/g, "")
    .replace(/^void /, "")
    .replace(/\((?:[^()]|\([^()]*\))*\)$/, "");
}

function collect(folder) {
  const kernels = [];
  const losses = [];
  for (const file of filesBelow(folder)) {
    // An object that is gone left its report.
    if (!existsSync(file.replace(/\.ptxas$/, ""))) continue;
    const found = parsePtxas(readFileSync(file, "utf8"), basename(file).replace(/\.o\.ptxas$/, ""));
    kernels.push(...found.kernels);
    losses.push(...found.losses);
  }
  const names = kernels.length > 0 ? demangle(kernels.map(({ name }) => name)) : [];
  for (const [i, kernel] of kernels.entries()) kernel.name = shortName(names[i]);
  kernels.sort((a, b) => a.source.localeCompare(b.source) || a.name.localeCompare(b.name));
  return { kernels, losses };
}

/** One line a kernel: registers and static shared memory for each target. */
export function tableOf(kernels, patterns) {
  const targets = [...new Set(kernels.map(({ target }) => target))];
  const rows = new Map();
  for (const kernel of kernels) {
    const key = `${kernel.source}: ${kernel.name}`;
    rows.set(key, { ...rows.get(key), [kernel.target]: kernel, name: kernel.name });
  }
  const lines = [`${"registers / static shared bytes".padEnd(72)} ${targets.map((t) => t.padStart(14)).join("")}`];
  for (const [key, row] of rows) {
    const cells = targets.map((target) => {
      const kernel = row[target];
      if (kernel === undefined) return "-".padStart(14);
      const spills = kernel.spillStoreBytes + kernel.spillLoadBytes > 0 ? "!" : "";
      return `${kernel.registers} / ${kernel.sharedBytes}${spills}`.padStart(14);
    });
    const hot = patterns.some((pattern) => pattern.test(row.name)) ? "* " : "  ";
    lines.push(`${(hot + key).slice(0, 72).padEnd(72)} ${cells.join("")}`);
  }
  return lines.join("\n");
}

function main(folder, report, hotList) {
  const { kernels, losses } = collect(folder);
  const patterns = parseHotList(readFileSync(hotList, "utf8"));
  const faults = findFaults(kernels, losses, patterns);
  writeFileSync(report, `${JSON.stringify({ schemaVersion: 1, kernels, losses, faults }, null, 1)}\n`);
  console.log(tableOf(kernels, patterns));
  console.log("*: hot (no spills on any target)   !: spills registers");
  for (const fault of faults) console.log(`FAULT: ${fault}`);
  const compiled = new Set(kernels.map(({ name, source }) => `${source} ${name}`)).size;
  console.log(`ptxas report: ${compiled} kernels, ${faults.length} faults, ${report}`);
  return faults.length === 0 ? 0 : 1;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [folder, report, hotList = kHotList] = process.argv.slice(2);
  if (folder === undefined || report === undefined) {
    console.error("usage: node cuda/ptxas-report.mjs BUILD-FOLDER REPORT.json [HOT-KERNELS.txt]");
    process.exitCode = 2;
  } else {
    process.exitCode = main(folder, report, hotList);
  }
}
