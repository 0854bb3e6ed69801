import { fineTune } from "../fine-tune.js";
import { weightMasks } from "../mask.js";
import { maskAdaptive } from "../masking/adaptive.js";
import { maskFixed } from "../masking/fixed.js";
import { maskGuarded } from "../masking/guarded.js";
import { maskIterated } from "../masking/iterated.js";
import type { Masking } from "../masking/masking.js";
import { maskProbed } from "../masking/probed.js";
import { defineMethod, type MethodContext, type MethodOutcome } from "../method.js";
import { refitHead } from "../refit-head.js";

function mask(context: MethodContext): Promise<Masking> {
  const { selection } = context.config;
  switch (selection.kind) {
    case "fixed":
      return maskFixed(context, selection.ratio);
    case "adaptive":
      return maskAdaptive(context, selection.maxRatio);
    case "iterated":
      return maskIterated(context, selection.ratioPerRound, selection.maxRatio);
    case "guarded":
      return maskGuarded(context, selection);
    case "probed":
      return maskProbed(context, selection);
  }
}

async function run(context: MethodContext): Promise<MethodOutcome> {
  const { config } = context;
  const masking = await mask(context);
  const refit = config.refitHead ?? null;
  if (config.fineTune === null && refit === null) return { ...masking, fineTuning: [] };
  await context.onMasked?.();
  if (refit !== null) await refitHead(context, refit);
  if (config.fineTune === null) return { ...masking, fineTuning: [] };
  const hold = config.hold ? weightMasks(masking.masks) : undefined;
  const fineTuning = await fineTune(context, config.fineTune, "Fine-tune", hold);
  return { ...masking, fineTuning };
}

export const method = defineMethod({
  name: "fisher-masking",
  summary:
    "Masks the units whose Fisher says that they serve the forget set alone; fine-tunes if asked.",
  source: "Liu, Sun, Wu, Zhou: Unlearning with Fisher Masking, arXiv:2310.05331",
  needsFineTune: false,
  run,
});
