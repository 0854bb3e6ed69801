#!/usr/bin/env node
import { CommanderError } from "commander";
import { FishermaskError } from "../native/errors.js";
import { EXIT, exitCodeOf } from "./exit-codes.js";
import { createProgram } from "./program.js";

function describe(error: unknown): string {
  if (error instanceof FishermaskError) return `fishermask: ${error.message} [${error.code}]`;
  if (error instanceof Error)
    return `fishermask: unexpected error: ${error.stack ?? error.message}`;
  return `fishermask: unexpected error: ${String(error)}`;
}

async function main(): Promise<number> {
  try {
    await createProgram().parseAsync(process.argv);
    return EXIT.ok;
  } catch (error) {
    // Commander has already written its message, or the help that was asked for.
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
    // On a terminal a progress bar may still stand in this line.
    const clear = process.stderr.isTTY ? "\r\u001B[K" : "";
    process.stderr.write(`${clear}${describe(error)}\n`);
    return exitCodeOf(error);
  }
}

process.exitCode = await main();
