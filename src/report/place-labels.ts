/** A spot in pixels. */
export interface Spot {
  readonly x: number;
  readonly y: number;
}

export interface LabelBox {
  readonly width: number;
  readonly height: number;
}

// A mark keeps this much for itself on every side.
const kMarkRadius = 5;
// Around the mark, nearest first; a label is moved further out where these are all taken.
const kDirections: readonly Spot[] = [
  { x: 1, y: 0 },
  { x: -1, y: 0 },
  { x: 0, y: -1 },
  { x: 0, y: 1 },
  { x: 1, y: -1 },
  { x: 1, y: 1 },
  { x: -1, y: -1 },
  { x: -1, y: 1 },
];
const kReaches = [0, 8, 18, 30] as const;

interface Box {
  readonly left: number;
  readonly right: number;
  readonly top: number;
  readonly bottom: number;
}

function boxAt(centre: Spot, { width, height }: LabelBox): Box {
  return {
    left: centre.x - width / 2,
    right: centre.x + width / 2,
    top: centre.y - height / 2,
    bottom: centre.y + height / 2,
  };
}

function overlap(a: Box, b: Box): boolean {
  return a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
}

function candidates(mark: Spot, box: LabelBox): readonly Spot[] {
  return kReaches.flatMap((reach) =>
    kDirections.map(({ x, y }) => ({
      x: mark.x + x * (kMarkRadius + reach + box.width / 2),
      y: mark.y + y * (kMarkRadius + reach + box.height / 2),
    })),
  );
}

/**
 * Where labels of one size go beside their marks, so that they meet neither each other nor a mark: the nearest free place,
 * marks in the order given.
 *
 * @returns the labels' centres, one for each mark; the nearest place of all where none is free
 */
export function placeLabels(marks: readonly Spot[], box: LabelBox): readonly Spot[] {
  const side = 2 * kMarkRadius;
  const taken = marks.map((mark) => boxAt(mark, { width: side, height: side }));
  return marks.map((mark) => {
    const places = candidates(mark, box);
    const free = places.find((place) => !taken.some((other) => overlap(boxAt(place, box), other)));
    const chosen = free ?? (places[0] as Spot);
    taken.push(boxAt(chosen, box));
    return chosen;
  });
}
