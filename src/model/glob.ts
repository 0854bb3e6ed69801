import { expected } from "./graph-error.js";

const kSpecial: Readonly<Record<string, string>> = {
  "*": ".*",
  "?": ".",
  "{": "(?:",
  "}": ")",
};

function toExpression(pattern: string): string {
  let depth = 0;
  let expression = "";
  for (const character of pattern) {
    if (character === "{") depth += 1;
    if (character === "}") depth -= 1;
    if (depth < 0) break;
    if (character === "," && depth > 0) expression += "|";
    else expression += kSpecial[character] ?? character.replace(/[\\^$.|+()[\]]/, "\\$&");
  }
  if (depth !== 0) {
    throw expected("ERR_FM_ARGUMENT", "a { for every }", "a pattern", `"${pattern}"`);
  }
  return expression;
}

/**
 * Whether a name matches: `*` is any run of characters (dots too), `?` one, `{a,b}` either. Everything else is itself.
 *
 * @throws {@link FishermaskError} `ERR_FM_ARGUMENT` for braces that do not pair
 */
export function compileGlob(pattern: string): (name: string) => boolean {
  const expression = new RegExp(`^${toExpression(pattern)}$`, "su");
  return (name) => expression.test(name);
}
