import { FishermaskError } from "./errors.js";

/** @throws {@link FishermaskError} `ERR_FM_ARGUMENT` naming the value and listing the choices, for anything else */
export function checkChoice(name: string, value: string, choices: readonly string[]): void {
  if (choices.includes(value)) return;
  throw new FishermaskError(
    "ERR_FM_ARGUMENT",
    `Expected one of ${choices.join(", ")} for ${name} but received ${value}`,
  );
}
