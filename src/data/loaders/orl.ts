import { join } from "node:path";
import { badFile } from "../../io/file-error.js";
import { arrayDataset, type ImageDataset, sampleBytes } from "../dataset.js";
import { readIdx } from "../idx-file.js";
import { ImageStack } from "../images/stack.js";
import { defineLoader, type LoadOptions } from "../loader.js";

const kPeople = 40;
const kPictures = 10;
const kTrainPictures = 8;
const kImages = "orl-images-idx3-ubyte";
const kLabels = "orl-labels-idx1-ubyte";

/** The split's places in the file: of each person the first eight pictures train, the last two test. */
function placesOf(path: string, labels: Uint8Array, isTrain: boolean): number[] {
  const seen = new Array<number>(kPeople).fill(0);
  const places: number[] = [];
  for (const [i, label] of labels.entries()) {
    if (label >= kPeople) {
      throw badFile(path, `record ${i}`, `a label from 0 to ${kPeople - 1}`, String(label));
    }
    const earlier = seen[label] as number;
    if (earlier < kTrainPictures === isTrain) places.push(i);
    seen[label] = earlier + 1;
  }
  const wrong = seen.findIndex((count) => count !== kPictures);
  if (wrong >= 0) {
    const expected = `${kPictures} pictures a person`;
    throw badFile(path, "the labels", expected, `${seen[wrong]} of label ${wrong}`);
  }
  return places;
}

async function load({ path, split, limit, imageSize }: LoadOptions): Promise<ImageDataset> {
  const [imagePath, labelPath] = [join(path, kImages), join(path, kLabels)];
  const { data } = await readIdx(labelPath, 1);
  const places = placesOf(labelPath, data, split === "train").slice(0, limit);
  const { total, itemSizes, data: pixels } = await readIdx(imagePath, 3);
  if (total !== data.length) {
    throw badFile(
      imagePath,
      "the number of images",
      `${data.length}, as there are labels`,
      `${total}`,
    );
  }
  const [height = 0, width = 0] = itemSizes;
  const size = sampleBytes([height, width, 1]);
  const stack = new ImageStack(places.length, imageSize);
  for (const i of places) {
    const image = pixels.subarray(i * size, (i + 1) * size);
    stack.add(
      { height, width, channels: 1, data: image },
      { path: imagePath, where: `record ${i}` },
    );
  }
  return arrayDataset({
    name: "orl",
    classes: Array.from({ length: kPeople }, (_, person) => `person ${person + 1}`),
    labels: Int32Array.from(places, (i) => data[i] as number),
    ...stack.finish(),
  });
}

/**
 * The ORL Database of Faces as IDX files: 40 people, ten grey pictures of 112 x 92 each, of which the first eight train and
 * the last two test. The pictures are AT&T Laboratories Cambridge's, free to use with credit to them.
 *
 * Source: https://cam-orl.co.uk/facedatabase.html; F. Samaria, A. Harter, "Parameterisation of a Stochastic Model for Human
 * Face Identification", 1994
 */
export const loader = defineLoader({
  name: "orl",
  summary: "the ORL faces of AT&T Laboratories Cambridge, as IDX files: 40 people, grey images",
  options: {
    path: `folder with ${kImages} and ${kLabels}`,
    split: "train (each person's first eight pictures) or test (the last two)",
    limit: "the first samples only, in file order",
    imageSize:
      "height and width: each image is scaled until it just covers them, and its centre is cut out",
  },
  load,
});
