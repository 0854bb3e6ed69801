import { argumentError } from "./check.js";

const kDigits = /^[0-9]+$/;
// Longer lists of names are cut in messages.
const kMaxListed = 20;

function known(classes: readonly string[]): string {
  const listed = classes.slice(0, kMaxListed).join(", ");
  const more = classes.length > kMaxListed ? ", …" : "";
  return `a class name (${listed}${more}) or an index from 0 to ${classes.length - 1}`;
}

/**
 * The label of a class given by its exact name or its index.
 *
 * @param what the option at fault, for the message
 * @throws {@link FishermaskError} `ERR_FM_ARGUMENT` for neither, or where it is one class's name and another's index
 */
export function findClass(classes: readonly string[], text: string, what: string): number {
  const named = classes.indexOf(text);
  const index = kDigits.test(text) ? Number(text) : -1;
  const indexed = index >= 0 && index < classes.length;
  if (named >= 0 && indexed && named !== index) {
    throw argumentError(`a class that is not both a name (of ${named}) and an index`, what, text);
  }
  if (named < 0 && !indexed) {
    throw argumentError(known(classes), what, text);
  }
  return named >= 0 ? named : index;
}
