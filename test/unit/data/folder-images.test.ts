import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import sharp from "sharp";
import { describe, expect, it } from "vitest";
import { decodeImage, type Pixels } from "../../../src/data/images/decode.js";
import { decodeImages, type EncodedImage } from "../../../src/data/images/decode-all.js";
import { resizeAndCrop } from "../../../src/data/images/resize.js";
import { loadSharp } from "../../../src/data/images/sharp.js";
import { ImageStack } from "../../../src/data/images/stack.js";
import { expectError } from "../io/support.js";

const place = { path: "some.png", where: "the image" };

/** As the script that made the fixtures: byte i of image n is (31 i² + 7 i + 50 n) mod 256. */
function pixels(number: number, height: number, width: number, channels: 1 | 3): Pixels {
  const size = height * width * channels;
  const data = Uint8Array.from(
    { length: size },
    (_, i) => (31 * i * i + 7 * i + 50 * number) % 256,
  );
  return { height, width, channels, data };
}

function encoder({ height, width, channels, data }: Pixels) {
  const image = sharp(data, { raw: { height, width, channels } });
  return channels === 1 ? image.toColourspace("b-w") : image;
}

const encoded = (bytes: Uint8Array, i: number): EncodedImage => ({
  path: `${i}.png`,
  where: "the image",
  read: async () => bytes,
});

describe("resizeAndCrop", () => {
  interface Case {
    readonly from: readonly [number, number, 1 | 3];
    readonly to: readonly [number, number];
    readonly first: readonly number[];
    readonly sha256: string;
  }
  const { cases } = JSON.parse(readFileSync("test/fixtures/images/resize.json", "utf8")) as {
    cases: Case[];
  };

  it.each(cases)("$from to $to is Pillow's, byte for byte", ({ from, to, first, sha256 }) => {
    const { height, width, channels, data } = resizeAndCrop(pixels(0, ...from), to);
    expect([height, width, channels]).toEqual([...to, from[2]]);
    expect([...data.subarray(0, first.length)]).toEqual(first);
    expect(createHash("sha256").update(data).digest("hex")).toBe(sha256);
  });

  it("leaves an image alone that has the size", () => {
    const image = pixels(0, 6, 7, 3);
    expect(resizeAndCrop(image, [6, 7])).toEqual(image);
  });
});

describe("decodeImage", () => {
  it.each([1, 3] as const)(
    "gives the bytes of a PNG and a lossless WebP of %d channel(s)",
    async (channels) => {
      const image = pixels(1, 6, 9, channels);
      const png = await encoder(image).png().toBuffer();
      expect(await decodeImage(sharp, png, place)).toEqual({
        ...image,
        data: Buffer.from(image.data),
      });
      if (channels === 1) return;
      const webp = await encoder(image).webp({ lossless: true }).toBuffer();
      expect(await decodeImage(sharp, webp, place)).toEqual({
        ...image,
        data: Buffer.from(image.data),
      });
    },
  );

  it("gives a JPEG about as it was, grey as one channel", async () => {
    for (const channels of [1, 3] as const) {
      const flat = { height: 8, width: 8, channels, data: new Uint8Array(64 * channels).fill(77) };
      const jpeg = await encoder(flat).jpeg({ quality: 100 }).toBuffer();
      const { data, ...rest } = await decodeImage(sharp, jpeg, place);
      expect(rest).toEqual({ height: 8, width: 8, channels });
      for (const value of data) expect(Math.abs(value - 77)).toBeLessThanOrEqual(2);
    }
  });

  it("lays what is transparent over black", async () => {
    const rgba = Buffer.from([200, 100, 50, 255, 200, 100, 50, 0, 200, 100, 50, 51]);
    const png = await sharp(rgba, { raw: { height: 1, width: 3, channels: 4 } })
      .png()
      .toBuffer();
    const { data } = await decodeImage(sharp, png, place);
    expect([...data]).toEqual([200, 100, 50, 0, 0, 0, 40, 20, 10]);
  });

  it("brings palettes and deeper channels to bytes", async () => {
    const image = pixels(2, 4, 4, 3);
    const palette = await encoder(image).png({ palette: true, colours: 256 }).toBuffer();
    expect(Buffer.from((await decodeImage(sharp, palette, place)).data)).toEqual(
      Buffer.from(image.data),
    );
    const deep = await sharp(new Uint16Array([0, 255 * 257, 128 * 257]), {
      raw: { height: 1, width: 3, channels: 1 },
    })
      .toColourspace("grey16")
      .png()
      .toBuffer();
    expect([...(await decodeImage(sharp, deep, place)).data]).toEqual([0, 255, 128]);
  });

  it("refuses other formats, though the decoder knows them", async () => {
    const image = encoder(pixels(0, 4, 5, 3));
    const svg = Buffer.from('<svg xmlns="http://www.w3.org/2000/svg" width="4" height="4"/>');
    for (const bytes of [
      await image.clone().gif().toBuffer(),
      await image.clone().tiff().toBuffer(),
      svg,
      new Uint8Array(0),
    ]) {
      await expectError(
        () => decodeImage(sharp, bytes, place),
        "ERR_FM_BAD_FILE",
        "some.png",
        "another kind",
      );
    }
  });

  it("refuses what is cut, damaged or of another kind behind its first bytes", async () => {
    const image = encoder(pixels(0, 40, 50, 3));
    const refused = [Buffer.from("RIFF____WEBPjunk"), Buffer.from([0xff, 0xd8, 0xff, 0xe0])];
    for (const whole of [
      await image.clone().png().toBuffer(),
      await image.clone().jpeg().toBuffer(),
      await image.clone().webp().toBuffer(),
    ]) {
      refused.push(whole.subarray(0, whole.length >> 1), whole.subarray(0, 20));
    }
    for (const bytes of refused) {
      await expectError(
        () => decodeImage(sharp, bytes, place),
        "ERR_FM_BAD_FILE",
        "the image of some.png",
      );
    }
  });

  it("refuses too many pixels before it decodes them", async () => {
    const wide = { width: 16_384, height: 2049, channels: 3, background: "#fff" } as const;
    const bomb = await sharp({ create: wide }).png({ compressionLevel: 1 }).toBuffer();
    const before = process.memoryUsage().rss;
    await expectError(
      () => decodeImage(sharp, bomb, place),
      "ERR_FM_BAD_FILE",
      "33554432 pixels",
      "pixel limit",
    );
    expect(process.memoryUsage().rss - before).toBeLessThan(50_000_000);
  });

  it("refuses moving pictures", async () => {
    const frames = [0, 1].map((n) =>
      encoder(pixels(n, 4, 5, 3))
        .png()
        .toBuffer(),
    );
    const webp = await sharp(await Promise.all(frames), { join: { animated: true } })
      .webp()
      .toBuffer();
    await expectError(
      () => decodeImage(sharp, webp, place),
      "ERR_FM_BAD_FILE",
      "moving pictures (2)",
    );
  });
});

describe("loadSharp", () => {
  it("says what to install where there is none, or one that is too old or broken", async () => {
    const words = ["sharp 0.35.3", "npm install sharp"];
    const missing = Object.assign(new Error("Cannot find package 'sharp'"), {
      code: "ERR_MODULE_NOT_FOUND",
    });
    const none = (): Promise<never> => Promise.reject(missing);
    await expectError(() => loadSharp(none), "ERR_FM_UNSUPPORTED", "received none", ...words);
    const broken = (): Promise<never> => Promise.reject(new Error("no binary"));
    await expectError(() => loadSharp(broken), "ERR_FM_UNSUPPORTED", "no binary", ...words);
    const versioned = (version: string) => async () =>
      ({ default: { versions: { sharp: version } } }) as unknown as { default: typeof sharp };
    for (const version of ["0.35.2", "0.34.9", "0.9.9"]) {
      await expectError(
        () => loadSharp(versioned(version)),
        "ERR_FM_UNSUPPORTED",
        version,
        ...words,
      );
    }
    for (const version of ["0.35.3", "0.36.0", "1.0.0"]) {
      expect((await loadSharp(versioned(version))).versions.sharp).toBe(version);
    }
  });
});

describe("ImageStack", () => {
  const grey = { height: 1, width: 2, channels: 1, data: Uint8Array.of(1, 2) } as const;
  const rgb = { height: 1, width: 2, channels: 3, data: Uint8Array.of(3, 4, 5, 6, 7, 8) } as const;

  it.each([
    [[grey, grey], 1, [1, 2, 1, 2]],
    [[rgb, grey], 3, [3, 4, 5, 6, 7, 8, 1, 1, 1, 2, 2, 2]],
    [[grey, rgb], 3, [1, 1, 1, 2, 2, 2, 3, 4, 5, 6, 7, 8]],
    [
      [grey, grey, rgb, grey],
      3,
      [1, 1, 1, 2, 2, 2, 1, 1, 1, 2, 2, 2, 3, 4, 5, 6, 7, 8, 1, 1, 1, 2, 2, 2],
    ],
  ] as const)("grey stays grey until there is colour (%#)", (images, channels, bytes) => {
    const stack = new ImageStack(images.length, undefined);
    for (const image of images) stack.add(image, place);
    const { images: array, shape } = stack.finish();
    expect(shape).toEqual([1, 2, channels]);
    expect([...array]).toEqual(bytes);
  });

  it("tells that there is no memory", async () => {
    const stack = new ImageStack(2 ** 50, undefined);
    await expectError(() => stack.add(rgb, place), "ERR_FM_OUT_OF_MEMORY", "1 x 2 x 3");
  });
});

describe("decodeImages", () => {
  it("keeps the order, more images than are decoded at once", async () => {
    const images = Array.from({ length: 11 }, (_, n) => pixels(n, 3 + n, 4, 3));
    const bytes = await Promise.all(images.map((image) => encoder(image).png().toBuffer()));
    const { images: array, shape } = await decodeImages(bytes.map(encoded), 11, [3, 4]);
    expect(shape).toEqual([3, 4, 3]);
    for (const [n, image] of images.entries()) {
      expect(Buffer.from(array.subarray(n * 36, (n + 1) * 36))).toEqual(
        Buffer.from(resizeAndCrop(image, [3, 4]).data),
      );
    }
  });

  it("reports the first that is at fault, and leaves no rejection behind", async () => {
    const good = await encoder(pixels(0, 3, 4, 3))
      .png()
      .toBuffer();
    const other = await encoder(pixels(0, 4, 3, 3))
      .png()
      .toBuffer();
    const junk = Buffer.from("junk");
    const first = [good, good, other, junk, junk, junk].map(encoded);
    await expectError(
      () => decodeImages(first, 6, undefined),
      "ERR_FM_BAD_FILE",
      "the image of 2.png",
      "3 x 4 pixels",
      "received 4 x 3",
    );
    await expectError(
      () => decodeImages([junk, other].map(encoded), 2, undefined),
      "ERR_FM_BAD_FILE",
      "0.png",
    );
  });
});
