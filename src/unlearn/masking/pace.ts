/** Of the largest step: below it, a step is not worth the round that it takes. */
const kSmallestShare = 1 / 8;
const kFast = 0.4;
const kSlow = 0.15;

/** How many units the next step masks: less where a step did much or was undone, more where it did little. */
export class Pace {
  readonly #largest: number;
  readonly #smallest: number;
  #step: number;

  /** @param largest units, from 1 */
  constructor(largest: number) {
    this.#largest = largest;
    this.#smallest = Math.max(1, Math.floor(largest * kSmallestShare));
    this.#step = largest;
  }

  next(): number {
    return Math.max(this.#smallest, Math.floor(Math.min(this.#step, this.#largest)));
  }

  /** After a step of `units` that was kept. @param dropped share of the recognised samples that it made forgotten */
  kept(units: number, dropped: number): void {
    const factor = dropped > kFast ? 0.5 : dropped < kSlow ? 1.5 : 1;
    this.#step = units * factor;
  }

  /** After a round of which nothing was kept. @param units of its last, smallest trial */
  undone(units: number): void {
    this.#step = Math.max(Math.floor(units / 2), this.#smallest);
  }
}
