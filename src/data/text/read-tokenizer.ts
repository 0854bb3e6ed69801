import { argumentError } from "../check.js";
import type { LoadOptions } from "../loader.js";
import { openTokenizer, type Tokenizer } from "./tokenizer.js";

/** The tokenizer that text data need. @throws {@link FishermaskError} `ERR_FM_ARGUMENT` without one; as `openTokenizer` */
export function readTokenizer({ tokenizer, path }: LoadOptions): Promise<Tokenizer> {
  if (tokenizer !== undefined) return openTokenizer(tokenizer);
  throw argumentError("the path of a tokenizer", "tokenizer", `none, for the text of ${path}`);
}
