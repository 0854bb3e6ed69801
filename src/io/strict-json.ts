/**
 * A JSON value with its objects as Maps: a key such as `__proto__` is a key like any other, keys that look like numbers
 * keep their place, and a repeated key cannot hide (it is refused).
 */
export type StrictJson =
  | string
  | number
  | boolean
  | null
  | readonly StrictJson[]
  | ReadonlyMap<string, StrictJson>;

/** Why a text was refused and the character (UTF-16 code unit, from 0) where. */
export class StrictJsonError extends Error {
  readonly position: number;

  constructor(problem: string, position: number) {
    super(`${problem} at character ${position}`);
    this.name = "StrictJsonError";
    this.position = position;
  }
}

const kWhitespace = /[ \t\n\r]*/y;
const kNumber = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;
const kInteger = /^-?[0-9]+$/;
const kLoneSurrogate = /\p{Surrogate}/u;

const kLiterals: ReadonlyMap<string, boolean | null> = new Map([
  ["true", true],
  ["false", false],
  ["null", null],
]);

/** A key in a message: hostile ones may be megabytes long. */
function quote(key: string): string {
  return JSON.stringify(key.length > 80 ? `${key.slice(0, 80)}…` : key);
}

class Scanner {
  private position = 0;

  constructor(
    private readonly text: string,
    private readonly maxDepth: number,
  ) {}

  document(): StrictJson {
    const value = this.value(1);
    this.match(kWhitespace);
    if (this.position !== this.text.length) {
      throw this.error("unexpected text after the value");
    }
    return value;
  }

  private error(problem: string): StrictJsonError {
    return new StrictJsonError(problem, this.position);
  }

  /** Takes what the sticky pattern matches here, or nothing. */
  private match(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.position;
    const found = pattern.exec(this.text)?.[0];
    this.position += found?.length ?? 0;
    return found;
  }

  /** The next character that is not white space, not taken. */
  private peek(): string {
    this.match(kWhitespace);
    return this.text.charAt(this.position);
  }

  private take(character: string): boolean {
    if (this.peek() !== character) {
      return false;
    }
    this.position += 1;
    return true;
  }

  private value(depth: number): StrictJson {
    const first = this.peek();
    if (first === "{" || first === "[") {
      if (depth > this.maxDepth) {
        throw this.error(`nesting deeper than ${this.maxDepth}`);
      }
      this.position += 1;
      return first === "{" ? this.object(depth) : this.array(depth);
    }
    if (first === '"') {
      return this.string();
    }
    const literal = this.literal();
    return literal === undefined ? this.number() : literal;
  }

  private object(depth: number): ReadonlyMap<string, StrictJson> {
    const entries = new Map<string, StrictJson>();
    if (this.take("}")) {
      return entries;
    }
    do {
      this.peek();
      const start = this.position;
      const key = this.string();
      if (entries.has(key)) {
        throw new StrictJsonError(`the key ${quote(key)} appears twice`, start);
      }
      if (!this.take(":")) {
        throw this.error(`no ":" after the key ${quote(key)}`);
      }
      entries.set(key, this.value(depth + 1));
    } while (this.take(","));
    if (!this.take("}")) {
      throw this.error('no "," or "}" after an entry');
    }
    return entries;
  }

  private array(depth: number): readonly StrictJson[] {
    const items: StrictJson[] = [];
    if (this.take("]")) {
      return items;
    }
    do {
      items.push(this.value(depth + 1));
    } while (this.take(","));
    if (!this.take("]")) {
      throw this.error('no "," or "]" after an item');
    }
    return items;
  }

  /** Takes a string with its quotes. No pattern: a backtracking one can overflow its stack on a long hostile string. */
  private stringToken(): string {
    const start = this.position;
    if (this.text.charAt(start) !== '"') {
      throw this.error("no string");
    }
    let end = start;
    do {
      end = this.text.indexOf('"', end + 1);
      if (end === -1) {
        throw this.error("a string without an end");
      }
    } while (this.isEscaped(end));
    this.position = end + 1;
    return this.text.slice(start, end + 1);
  }

  private isEscaped(index: number): boolean {
    let before = index;
    while (this.text.charAt(before - 1) === "\\") {
      before -= 1;
    }
    return (index - before) % 2 === 1;
  }

  private string(): string {
    const start = this.position;
    const token = this.stringToken();
    let value: string;
    try {
      // One token at a time, so the engine's own rules for escapes and control characters apply.
      value = JSON.parse(token) as string;
    } catch {
      throw new StrictJsonError("a bad escape or control character in a string", start);
    }
    if (kLoneSurrogate.test(value)) {
      throw new StrictJsonError("half a surrogate pair in a string", start);
    }
    return value;
  }

  private literal(): boolean | null | undefined {
    for (const [word, value] of kLiterals) {
      if (this.text.startsWith(word, this.position)) {
        this.position += word.length;
        return value;
      }
    }
    return undefined;
  }

  private number(): number {
    const start = this.position;
    const token = this.match(kNumber);
    if (token === undefined) {
      throw this.error("no JSON value");
    }
    const value = Number(token);
    // An integer beyond 2^53 would silently become its neighbour.
    if (!Number.isFinite(value) || (kInteger.test(token) && !Number.isSafeInteger(value))) {
      throw new StrictJsonError(`the number ${token.slice(0, 40)} is out of range`, start);
    }
    return value;
  }
}

/**
 * Parses JSON that nobody vouches for: repeated keys, deep nesting, integers beyond ±(2^53 − 1), numbers that overflow
 * and half surrogate pairs are refused; everything else is RFC 8259.
 *
 * @param maxDepth how many objects and arrays may lie inside each other, the outermost included
 * @throws {@link StrictJsonError}
 */
export function parseStrictJson(text: string, maxDepth: number): StrictJson {
  return new Scanner(text, maxDepth).document();
}
