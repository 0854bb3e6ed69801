import { describe, expect, it } from "vitest";
import { arrayDataset, subset, wholeView } from "../../../src/data/dataset.js";
import { meanPixel, occludedCopy } from "../../../src/data/occlude.js";
import { expectError } from "../io/support.js";

const HEIGHT = 8;
const WIDTH = 12;
const BYTES = HEIGHT * WIDTH * 2;
const FILL = Uint8Array.of(7, 9);

/** Pixels of 100 and more: the fill stands out. */
function data(size = 40) {
  return arrayDataset({
    name: "grid",
    classes: ["a", "b"],
    shape: [HEIGHT, WIDTH, 2],
    images: Uint8Array.from({ length: size * BYTES }, (_, i) => 100 + (i % 97)),
    labels: Int32Array.from({ length: size }, (_, i) => i % 2),
  });
}

/** Top, left, height and width of the smallest box around the hidden pixels, and how many they are. */
function hidden(image: Uint8Array) {
  const places: [number, number][] = [];
  for (let p = 0; p < HEIGHT * WIDTH; p++) {
    if (image[2 * p] !== FILL[0]) continue;
    expect(image[2 * p + 1]).toBe(FILL[1]);
    places.push([Math.floor(p / WIDTH), p % WIDTH]);
  }
  const [rows, columns] = [places.map(([row]) => row), places.map(([, column]) => column)];
  const [top, left] = [Math.min(...rows), Math.min(...columns)];
  const box = [Math.max(...rows) - top + 1, Math.max(...columns) - left + 1];
  return { top, left, box, count: places.length };
}

const imageOf = (images: Uint8Array, i: number) => images.subarray(i * BYTES, (i + 1) * BYTES);

describe("occluded copies", () => {
  it("hide one square of the share of the shorter side and nothing else, anywhere inside", () => {
    const source = data();
    const copy = occludedCopy(wholeView(source), { side: 0.4, seed: 1, fill: FILL }).dataset;
    const tops = new Set<number>();
    const lefts = new Set<number>();
    for (let i = 0; i < source.size; i++) {
      const image = imageOf(copy.images, i);
      const { top, left, box, count } = hidden(image);
      // 0.4 of 8 rows is 3.2: rounded down.
      expect(box).toEqual([3, 3]);
      expect(count).toBe(9);
      const original = imageOf(source.images, i);
      const changed = image.filter((pixel, p) => pixel !== original[p]).length;
      expect(changed).toBe(18);
      tops.add(top);
      lefts.add(left);
    }
    expect(Math.min(...tops)).toBe(0);
    expect(Math.max(...tops)).toBe(HEIGHT - 3);
    expect(lefts.size).toBeGreaterThan(6);
  });

  it("are a data set of their own, in the view's order, and the source stays as it is", () => {
    const source = data();
    const before = source.images.slice();
    const view = subset(source, Int32Array.of(5, 2, 9));
    const copy = occludedCopy(view, { side: 0.25, seed: 3, fill: FILL });
    expect([...copy.indices]).toEqual([0, 1, 2]);
    expect(copy.dataset).toMatchObject({ size: 3, classes: ["a", "b"], shape: source.shape });
    expect([...copy.dataset.labels]).toEqual([1, 0, 1]);
    expect(copy.dataset.images.length).toBe(3 * BYTES);
    expect(source.images).toEqual(before);
  });

  it("place a sample's square by seed and index alone", () => {
    const source = data();
    const options = { side: 0.5, seed: 4, fill: FILL };
    const all = occludedCopy(wholeView(source), options).dataset.images;
    const few = occludedCopy(subset(source, Int32Array.of(31, 8)), options).dataset.images;
    expect(imageOf(few, 0)).toEqual(imageOf(all, 31));
    expect(imageOf(few, 1)).toEqual(imageOf(all, 8));
    const again = occludedCopy(wholeView(source), { ...options, seed: 5 }).dataset.images;
    expect(again).not.toEqual(all);
  });

  it("hide nothing for 0, and a pixel at least for more", () => {
    const source = data();
    const none = occludedCopy(wholeView(source), { side: 0, seed: 1, fill: FILL });
    expect(none.dataset.images).toEqual(source.images);
    expect(none.dataset.images).not.toBe(source.images);
    const one = occludedCopy(wholeView(source), { side: 0.01, seed: 1, fill: FILL });
    expect(hidden(imageOf(one.dataset.images, 0)).count).toBe(1);
    expect(
      occludedCopy(subset(source, new Int32Array()), { side: 0.5, seed: 1, fill: FILL }),
    ).toMatchObject({ dataset: { size: 0 } });
  });

  it("refuse a side or a fill that does not fit", async () => {
    const view = wholeView(data(2));
    for (const side of [-0.1, 1, Number.NaN]) {
      const refused = () => occludedCopy(view, { side, seed: 1, fill: FILL });
      await expectError(refused, "ERR_FM_ARGUMENT", "side", `${side}`);
    }
    const grey = () => occludedCopy(view, { side: 0.5, seed: 1, fill: Uint8Array.of(1) });
    await expectError(grey, "ERR_FM_ARGUMENT", "fill", "(2)");
  });
});

describe("the mean pixel", () => {
  it("is what the normalisation maps nearest to 0, within 0..255", () => {
    expect([...meanPixel({ mean: [0.485, 0.456, 0.406], divisor: 255 })]).toEqual([124, 116, 104]);
    expect([...meanPixel({ mean: [33.4], divisor: 1 })]).toEqual([33]);
    expect([...meanPixel({ mean: [-1, 2], divisor: 255 })]).toEqual([0, 255]);
  });
});
