import { Command } from "commander";
import { VERSION } from "../version.js";
import { checkDevice } from "./options.js";
import { register as bench } from "./verbs/bench.js";
import { register as demo } from "./verbs/demo.js";
import { register as doctor } from "./verbs/doctor.js";
import { register as evaluate } from "./verbs/evaluate.js";
import { register as exportModel } from "./verbs/export.js";
import { register as fisher } from "./verbs/fisher.js";
import { register as generate } from "./verbs/generate.js";
import { register as mask } from "./verbs/mask.js";
import { register as onnxTest } from "./verbs/onnx-test.js";
import { register as train } from "./verbs/train.js";
import { register as unlearn } from "./verbs/unlearn.js";

/** The command line. Parsing errors are thrown as CommanderErrors, not exits. */
export function createProgram(): Command {
  const program = new Command("fishermask")
    .description(
      "Make a trained network forget chosen data, and measure what was forgotten and what was kept.",
    )
    .version(VERSION)
    .showHelpAfterError("(--help lists the options)")
    .exitOverride()
    .hook("preAction", (_program, command) => checkDevice(command));
  // In the order in which one would use them. Sub-commands inherit exitOverride only if it is set before.
  for (const register of [
    demo,
    train,
    evaluate,
    fisher,
    mask,
    unlearn,
    generate,
    exportModel,
    onnxTest,
    bench,
    doctor,
  ])
    register(program);
  return program;
}
