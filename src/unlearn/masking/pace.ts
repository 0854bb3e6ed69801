/** Of ResNet-20's 268 thousand candidates: where steps begin to be too small to be worth a round. */
const kSmallestStep = 8;
const kSmallestRestart = 16;
const kFast = 0.4;
const kSlow = 0.15;

/** How many units the next step masks: less where a step did much or was undone, more where it did little. */
export class Pace {
  readonly #largest: number;
  #step: number;

  /** @param largest units, from 1 */
  constructor(largest: number) {
    this.#largest = largest;
    this.#step = largest;
  }

  next(): number {
    const least = Math.min(kSmallestStep, this.#largest);
    return Math.max(least, Math.floor(Math.min(this.#step, this.#largest)));
  }

  /** After a step of `units` that was kept. @param dropped share of the recognised samples that it made forgotten */
  kept(units: number, dropped: number): void {
    const factor = dropped > kFast ? 0.5 : dropped < kSlow ? 1.5 : 1;
    this.#step = units * factor;
  }

  /** After a round of which nothing was kept. @param units of its last, smallest trial */
  undone(units: number): void {
    this.#step = Math.max(Math.floor(units / 2), Math.min(kSmallestRestart, this.#largest));
  }
}
