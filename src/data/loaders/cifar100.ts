import { join } from "node:path";
import { arrayDataset } from "../dataset.js";
import { defineLoader } from "../loader.js";
import { type PlanarFormat, readPlanarRecords } from "../planar-records.js";

const kFormat: PlanarFormat = { shape: [32, 32, 3], labelBytes: 2, labelAt: 1, classCount: 100 };

// The fine labels, in the order of the archive's fine_label_names.txt.
const kClasses: readonly string[] = `
  apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
  castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
  elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster
  man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck
  pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk
  skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger
  tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
`
  .trim()
  .split(/\s+/);

/**
 * CIFAR-100, "binary version": records of a coarse label, a fine label and 1024 red, green and blue bytes. The label is
 * the fine one.
 *
 * Source: https://www.cs.toronto.edu/~kriz/cifar.html
 */
export const loader = defineLoader({
  name: "cifar100",
  summary: "CIFAR-100, binary version: 32x32 colour images of 100 (fine) classes",
  options: {
    path: "folder with train.bin and test.bin",
    split: "train or test",
    limit: "the first samples only, in file order",
  },
  load: async ({ path, split, limit }) => {
    const records = await readPlanarRecords([join(path, `${split}.bin`)], kFormat, limit);
    return arrayDataset({ name: "cifar100", classes: kClasses, shape: kFormat.shape, ...records });
  },
});
