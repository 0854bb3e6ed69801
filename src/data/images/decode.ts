import { badFile } from "../../io/file-error.js";
import { FishermaskError } from "../../native/errors.js";
import type { Sharp } from "./sharp.js";

/** Where an image lies, for messages: the file and the place in it. */
export interface ImagePlace {
  readonly path: string;
  readonly where: string;
}

/** (H, W, C), row-major, channels last: C is 1 for a grey image, else 3. */
export interface Pixels {
  readonly height: number;
  readonly width: number;
  readonly channels: 1 | 3;
  readonly data: Uint8Array;
}

/** An 8K picture, 7680 x 4320, fits; a small file that unpacks to gigabytes does not. */
export const kMaxPixels = 2 ** 25;

const kFormats: readonly (string | undefined)[] = ["jpeg", "png", "webp"];
const kGrey: readonly (string | undefined)[] = ["b-w", "grey16"];

const startsWith = (bytes: Uint8Array, at: number, ...signature: readonly number[]): boolean =>
  signature.every((byte, i) => bytes[at + i] === byte);

/** Whether the first bytes are those of JPEG, PNG or WebP: no other decoder is to see bytes from outside. */
function hasSignature(bytes: Uint8Array): boolean {
  return (
    startsWith(bytes, 0, 0xff, 0xd8, 0xff) ||
    startsWith(bytes, 0, 0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a) ||
    (startsWith(bytes, 0, 0x52, 0x49, 0x46, 0x46) && startsWith(bytes, 8, 0x57, 0x45, 0x42, 0x50))
  );
}

function refuse(place: ImagePlace, received: string, cause?: unknown): FishermaskError {
  const expected = `a whole JPEG, PNG or WebP image of at most ${kMaxPixels} pixels`;
  return badFile(place.path, place.where, expected, received, cause);
}

/**
 * Decodes a JPEG, PNG or WebP image to bytes. What is transparent is laid over black, unlike Pillow's `convert("RGB")`, which
 * drops the alpha channel and shows what lies under it. Deeper channels become 8 bits, palettes and CMYK become RGB; colour
 * profiles and the orientation in EXIF are not heeded, as torchvision does not heed them.
 *
 * @throws {@link FishermaskError} `ERR_FM_BAD_FILE` naming the place: another format, cut or damaged, more than
 * {@link kMaxPixels}, or moving pictures
 */
export async function decodeImage(
  sharp: Sharp,
  bytes: Uint8Array,
  place: ImagePlace,
): Promise<Pixels> {
  if (!hasSignature(bytes)) throw refuse(place, "bytes of another kind");
  const settings = { failOn: "warning", limitInputPixels: kMaxPixels, ignoreIcc: true } as const;
  try {
    const image = sharp(bytes, { ...settings, pages: -1 });
    const { format, space, pages = 1 } = await image.metadata();
    if (!kFormats.includes(format)) throw refuse(place, `the format ${format}`);
    if (pages > 1) throw refuse(place, `moving pictures (${pages})`);
    const { data, info } = await image
      .flatten({ background: "#000000" })
      .toColourspace(kGrey.includes(space) ? "b-w" : "srgb")
      .raw({ depth: "uchar" })
      .toBuffer({ resolveWithObject: true });
    const { height, width, channels } = info;
    if (channels !== 1 && channels !== 3) throw refuse(place, `${channels} channels`);
    return { height, width, channels, data };
  } catch (cause) {
    if (cause instanceof FishermaskError) throw cause;
    throw refuse(place, (cause as Error).message.replace(/\s+/g, " ").trim(), cause);
  }
}
