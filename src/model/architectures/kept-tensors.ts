/** By network: tensors of its published state dicts that serve training alone. */
const kTrainingOnly: Readonly<Record<string, RegExp>> = {
  // The auxiliary heads; torchvision's weights hold them or not, by the option aux_logits.
  googlenet: /^aux[12]\./,
};

/**
 * Whether a state dict of this network may hold a tensor that its graph does not have. Nothing reads it; it is kept when the
 * file is written back.
 *
 * @param network the graph's name
 */
export function servesTrainingAlone(network: string, tensor: string): boolean {
  return Object.hasOwn(kTrainingOnly, network) && kTrainingOnly[network]?.test(tensor) === true;
}
