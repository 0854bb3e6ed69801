import type { Command } from "commander";
import { exportOnnx } from "../../model/onnx/export.js";
import { openAnyModel } from "../../model/open.js";
import { FishermaskError } from "../../native/errors.js";
import { checkDestination } from "../destination.js";
import { addCommon, addModel, type CommonOptions, wholeNumber } from "../options.js";
import { Session } from "../session.js";

interface Options extends CommonOptions {
  readonly model: string;
  readonly arch?: string;
  readonly inputShape: readonly number[];
  readonly classes: number;
  readonly out: string;
}

/** "32,32,3" */
function sizes(text: string): number[] {
  return text.split(",").map(wholeNumber(1));
}

async function run(options: Options): Promise<void> {
  const session = new Session(options);
  const { model: path, arch, inputShape, classes, out } = options;
  if (!/\.onnx$/i.test(out)) {
    throw new FishermaskError(
      "ERR_FM_ARGUMENT",
      `Expected FILE.onnx for --out but received "${out}"`,
    );
  }
  await checkDestination(out);
  const model = await openAnyModel(path, { arch, inputShape, classes });
  await exportOnnx(model, model.weights, out);
  const { parameters, nodes } = model.graph;
  session.finish(
    { schemaVersion: 1, arch: model.arch, tensors: parameters.length, nodes: nodes.length, out },
    `${model.arch}: ${nodes.length} nodes, ${parameters.length} tensors → ${out}`,
  );
}

export function register(program: Command): void {
  const command = program
    .command("export")
    .description(
      "write an image classifier as an ONNX model: input (N, C, H, W) after normalisation",
    );
  addCommon(addModel(command))
    .requiredOption("--input-shape <H,W,C>", "of one image, e.g. 32,32,3", sizes)
    .requiredOption("--classes <N>", "how many classes the head tells apart", wholeNumber(1))
    .requiredOption("--out <FILE>", "where the model goes, .onnx")
    .action(run);
}
