/** A small generator of numbers for choosing mutations: the same for the same seed, on every machine. */
export class Random {
  private state: number;

  /** @param seed and `stream`: 32-bit integers; each pair gives its own numbers */
  constructor(seed: number, stream: number) {
    this.state = (Math.imul(seed, 0x9e3779b1) ^ Math.imul(stream + 1, 0x85ebca6b)) >>> 0;
    this.next();
    this.next();
  }

  /** 32 random bits (the mulberry32 generator). */
  next(): number {
    this.state = (this.state + 0x6d2b79f5) >>> 0;
    let z = this.state;
    z = Math.imul(z ^ (z >>> 15), z | 1);
    z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
    return (z ^ (z >>> 14)) >>> 0;
  }

  /** An integer from 0 to `count` − 1; 0 where there is none. */
  below(count: number): number {
    return count < 1 ? 0 : this.next() % count;
  }

  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)] as T;
  }
}
