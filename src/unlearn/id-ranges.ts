/** Ascending sample indices as text: "0-999,1005". Short for whole data sets and for the rest after a request. */
export function formatIds(ids: Int32Array): string {
  const parts: string[] = [];
  for (let begin = 0; begin < ids.length; ) {
    let end = begin;
    while (end + 1 < ids.length && ids[end + 1] === (ids[end] as number) + 1) end++;
    parts.push(begin === end ? `${ids[begin]}` : `${ids[begin]}-${ids[end]}`);
    begin = end + 1;
  }
  return parts.join(",");
}

const MOST_ID = 2 ** 31;
/** More ids than any data set here has: a short text must not ask for gigabytes. */
const MOST_IDS = 2 ** 27;

/** The inverse of `formatIds`. @throws what `problem` makes, for anything that is not ascending ranges */
export function parseIds(text: string, problem: () => Error): Int32Array {
  if (text === "") return new Int32Array(0);
  const ranges = text.split(",").map((part) => {
    const match = /^(\d{1,10})(?:-(\d{1,10}))?$/.exec(part);
    if (match === null) throw problem();
    const first = Number(match[1]);
    return { first, last: match[2] === undefined ? first : Number(match[2]) };
  });
  let previous = -1;
  let count = 0;
  for (const { first, last } of ranges) {
    if (first <= previous || last < first || last >= MOST_ID) throw problem();
    count += last - first + 1;
    if (count > MOST_IDS) throw problem();
    previous = last;
  }
  const ids = new Int32Array(count);
  let at = 0;
  for (const { first, last } of ranges) {
    for (let id = first; id <= last; id++) ids[at++] = id;
  }
  return ids;
}
