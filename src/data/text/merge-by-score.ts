/** Two neighbours that may be joined: the left one's place, and both as they were then. */
interface Candidate {
  readonly score: number;
  readonly left: number;
  readonly joined: string;
}

/** The better first: the larger score, then the place further left. */
function isBetter(a: Candidate, b: Candidate): boolean {
  return a.score > b.score || (a.score === b.score && a.left < b.left);
}

/** A binary heap whose root is the best candidate. */
class CandidateHeap {
  readonly #items: Candidate[] = [];

  push(item: Candidate): void {
    const items = this.#items;
    let at = items.push(item) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isBetter(item, items[parent] as Candidate)) break;
      items[at] = items[parent] as Candidate;
      at = parent;
    }
    items[at] = item;
  }

  pop(): Candidate | undefined {
    const items = this.#items;
    const best = items[0];
    const last = items.pop();
    if (last !== undefined && items.length > 0) this.#sink(last);
    return best;
  }

  #sink(item: Candidate): void {
    const items = this.#items;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= items.length) break;
      const right = items[child + 1];
      if (right !== undefined && isBetter(right, items[child] as Candidate)) child += 1;
      if (!isBetter(items[child] as Candidate, item)) break;
      items[at] = items[child] as Candidate;
      at = child;
    }
    items[at] = item;
  }
}

/**
 * Byte-pair encoding: joins the two neighbours whose union has the largest score (of equals the leftmost), again and again until
 * no union is known. In O(n log n), so that a book is no matter.
 *
 * @param scoreOf a known piece's score; undefined for an unknown one
 */
export function mergeByScore(
  pieces: readonly string[],
  scoreOf: (piece: string) => number | undefined,
): string[] {
  const texts: (string | undefined)[] = [...pieces];
  const next = Int32Array.from(pieces, (_, i) => i + 1);
  const previous = Int32Array.from(pieces, (_, i) => i - 1);
  const heap = new CandidateHeap();
  const offer = (left: number): void => {
    const right = next[left] as number;
    if (left < 0 || right >= pieces.length) return;
    const joined = `${texts[left]}${texts[right]}`;
    const score = scoreOf(joined);
    if (score !== undefined) heap.push({ score, left, joined });
  };
  for (let i = 0; i + 1 < pieces.length; i++) offer(i);
  for (let best = heap.pop(); best !== undefined; best = heap.pop()) {
    const { left, joined } = best;
    const right = next[left] as number;
    // Of a pair that is no more: one of the two was joined with another in the meantime.
    if (texts[left] === undefined || right >= pieces.length) continue;
    if (`${texts[left]}${texts[right]}` !== joined) continue;
    texts[left] = joined;
    texts[right] = undefined;
    const after = next[right] as number;
    next[left] = after;
    if (after < pieces.length) previous[after] = left;
    const before = previous[left] as number;
    if (before >= 0) offer(before);
    offer(left);
  }
  return texts.filter((text) => text !== undefined);
}
