import { crc32, inflateSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { encodePng, isPngImage, pngDataUri } from "../../../src/report/png.js";

interface Chunk {
  readonly type: string;
  readonly data: Buffer;
}

function chunksOf(png: Uint8Array): Chunk[] {
  const bytes = Buffer.from(png);
  expect(bytes.subarray(0, 8)).toEqual(Buffer.from("89504e470d0a1a0a", "hex"));
  const chunks: Chunk[] = [];
  for (let at = 8; at < bytes.length; ) {
    const length = bytes.readUInt32BE(at);
    const body = bytes.subarray(at + 4, at + 8 + length);
    expect(bytes.readUInt32BE(at + 8 + length)).toBe(crc32(body));
    chunks.push({ type: body.subarray(0, 4).toString("latin1"), data: body.subarray(4) });
    at += 12 + length;
  }
  return chunks;
}

function pixelsOf(chunks: readonly Chunk[], height: number, rowBytes: number): number[] {
  const rows = inflateSync(
    Buffer.concat(chunks.filter((c) => c.type === "IDAT").map((c) => c.data)),
  );
  expect(rows.length).toBe(height * (rowBytes + 1));
  return Array.from({ length: height }, (_, y) => {
    const row = rows.subarray(y * (rowBytes + 1), (y + 1) * (rowBytes + 1));
    expect(row[0]).toBe(0);
    return [...row.subarray(1)];
  }).flat();
}

describe("encodePng", () => {
  it.each([
    [1, 0],
    [2, 4],
    [3, 2],
    [4, 6],
  ])("writes %i channels as colour type %i, pixel for pixel", (channels, colourType) => {
    const [height, width] = [5, 7];
    const pixels = Uint8Array.from({ length: height * width * channels }, (_, i) => (i * 37) % 256);
    const chunks = chunksOf(encodePng({ height, width, channels, pixels }));
    expect(chunks.map((chunk) => chunk.type)).toEqual(["IHDR", "IDAT", "IEND"]);
    const header = chunks[0]!.data;
    expect([header.readUInt32BE(0), header.readUInt32BE(4)]).toEqual([width, height]);
    expect([...header.subarray(8)]).toEqual([8, colourType, 0, 0, 0]);
    expect(pixelsOf(chunks, height, width * channels)).toEqual([...pixels]);
  });

  it("gives a data URI of the same bytes", () => {
    const image = { height: 1, width: 1, channels: 3, pixels: Uint8Array.of(1, 2, 3) };
    const uri = pngDataUri(image);
    expect(uri).toMatch(/^data:image\/png;base64,[A-Za-z0-9+/]+=*$/);
    expect(Buffer.from(uri.split(",")[1]!, "base64")).toEqual(Buffer.from(encodePng(image)));
  });

  it.each([
    [0, 4, 3, 0],
    [4, 4, 5, 80],
    [4, 4, 3, 47],
    [1.5, 2, 1, 3],
    [20000, 1, 1, 20000],
  ])("refuses (%d, %d, %d) with %d bytes", (height, width, channels, length) => {
    const image = { height, width, channels, pixels: new Uint8Array(length) };
    expect(isPngImage(image)).toBe(false);
    expect(() => encodePng(image)).toThrow(expect.objectContaining({ code: "ERR_FM_ARGUMENT" }));
  });
});
