// Writes examples/data/fashion-mnist from Debian's package dataset-fashion-mnist: the first samples of each class, in
// file order, as gzipped IDX files, with class names and licence.
// Usage: node scripts/make-fashion-subset.mjs [SOURCE_FOLDER] [OUTPUT_FOLDER]
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { gunzipSync, gzipSync } from "node:zlib";

const kRoot = resolve(dirname(fileURLToPath(import.meta.url)), "..");
const kSource = process.argv[2] ?? "/usr/share/datasets/fashion-mnist";
const kOutput = process.argv[3] ?? join(kRoot, "examples/data/fashion-mnist");
const kCopyright = "/usr/share/doc/dataset-fashion-mnist/copyright";
// 8,000 images of 28 x 28 pixels stay below 3.9 MB gzipped.
const kPerClass = { train: 600, t10k: 200 };
const kItemBytes = 28 * 28;
const kImageHeaderBytes = 16;
const kLabelHeaderBytes = 8;
const kClasses = [
  "T-shirt/top",
  "Trouser",
  "Pullover",
  "Dress",
  "Coat",
  "Sandal",
  "Shirt",
  "Sneaker",
  "Bag",
  "Ankle boot",
];

function firstPerClass(labels, perClass) {
  const taken = new Array(kClasses.length).fill(0);
  const indices = [];
  labels.forEach((label, index) => {
    if (taken[label] < perClass) {
      taken[label] += 1;
      indices.push(index);
    }
  });
  return indices;
}

function idx(header, items) {
  const bytes = Buffer.alloc(header.length * 4);
  for (const [i, word] of header.entries()) {
    bytes.writeUInt32BE(word, i * 4);
  }
  return Buffer.concat([bytes, ...items]);
}

// zlib writes a modification time of 0 and no file name, so equal input gives equal bytes.
function writeGzipped(name, bytes) {
  const packed = gzipSync(bytes, { level: 9 });
  writeFileSync(join(kOutput, name), packed);
  return packed.length;
}

function subset(prefix, perClass) {
  const imageFile = `${prefix}-images-idx3-ubyte.gz`;
  const labelFile = `${prefix}-labels-idx1-ubyte.gz`;
  const images = gunzipSync(readFileSync(join(kSource, imageFile))).subarray(kImageHeaderBytes);
  const labels = gunzipSync(readFileSync(join(kSource, labelFile))).subarray(kLabelHeaderBytes);
  const indices = firstPerClass(labels, perClass);
  const pixels = indices.map((i) => images.subarray(i * kItemBytes, (i + 1) * kItemBytes));
  const chosen = Buffer.from(indices.map((i) => labels[i]));
  const bytes =
    writeGzipped(imageFile, idx([0x803, indices.length, 28, 28], pixels)) +
    writeGzipped(labelFile, idx([0x801, indices.length], [chosen]));
  process.stdout.write(`${prefix}: ${indices.length} samples, ${bytes} bytes\n`);
}

// Debian's machine-readable form indents a licence by one space and marks empty lines with a dot.
function licenceText() {
  const licence = readFileSync(kCopyright, "utf8").split(/^License: Expat\n(?= )/m)[1];
  if (licence === undefined) {
    throw new Error(`no Expat licence text in ${kCopyright}`);
  }
  const lines = licence.trimEnd().split("\n");
  const text = lines.map((line) => (line === " ." ? "" : line.slice(1).trimEnd())).join("\n");
  return `The MIT License (MIT)\n\nCopyright (c) 2017 Zalando SE, https://tech.zalando.com\n\n${text}\n`;
}

mkdirSync(kOutput, { recursive: true });
subset("train", kPerClass.train);
subset("t10k", kPerClass.t10k);
writeFileSync(join(kOutput, "classes.txt"), `${kClasses.join("\n")}\n`);
writeFileSync(join(kOutput, "LICENSE.txt"), licenceText());
