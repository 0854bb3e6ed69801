/** How figures are written, the same in the report and on the terminal. */

/** What stands where nothing was measured. */
export const NOT_MEASURED = "–";

const kCount = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const kMinuteSeconds = 60;
const kHourSeconds = 3600;

function isMissing(value: number | null | undefined): value is null | undefined {
  return value === null || value === undefined;
}

/**
 * A fraction in 0..1 as "91.7 %"; null as "–".
 * @param digits decimals after the point, 0..20
 */
export function formatPercent(fraction: number | null | undefined, digits = 1): string {
  if (isMissing(fraction)) {
    return NOT_MEASURED;
  }
  return Number.isFinite(fraction) ? `${(100 * fraction).toFixed(digits)} %` : String(fraction);
}

/** A share that may be far below one percent: as many decimals as two leading digits need ("0.11 %", "0.0043 %"). */
export function formatShare(fraction: number | null | undefined): string {
  if (isMissing(fraction) || !Number.isFinite(fraction) || fraction === 0) {
    return formatPercent(fraction);
  }
  const magnitude = Math.floor(Math.log10(Math.abs(100 * fraction)));
  return formatPercent(fraction, Math.min(8, Math.max(1, 1 - magnitude)));
}

/** A difference of two fractions in percentage points, with its sign: "+0.3", "−1.2", "0.0". */
export function formatPoints(difference: number): string {
  const points = (100 * Math.abs(difference)).toFixed(1);
  const sign = difference > 0 ? "+" : "−";
  return Number(points) === 0 ? points : `${sign}${points}`;
}

/** A count with thousands separated by commas: "268,336". */
export function formatCount(count: number): string {
  return Number.isFinite(count) ? kCount.format(count) : String(count);
}

/** A loss, score or rate with up to `digits` significant digits; null as "–". */
export function formatNumber(value: number | null | undefined, digits = 4): string {
  if (isMissing(value)) {
    return NOT_MEASURED;
  }
  if (!Number.isFinite(value) || value === 0) {
    return String(value);
  }
  const magnitude = Math.abs(value);
  return magnitude >= 1e-3 && magnitude < 1e6
    ? String(Number(value.toPrecision(digits)))
    : value.toExponential(Math.min(digits - 1, 2)).replace(/\.?0+e/, "e");
}

/** A duration given in seconds: "340 ms", "12.3 s", "4 min 05 s", "2 h 03 min"; null as "–". */
export function formatSeconds(seconds: number | null | undefined): string {
  if (isMissing(seconds)) {
    return NOT_MEASURED;
  }
  if (!Number.isFinite(seconds)) {
    return String(seconds);
  }
  if (seconds < 0.9995) {
    const milliseconds = 1000 * seconds;
    return `${milliseconds < 10 ? Number(milliseconds.toFixed(1)) : Math.round(milliseconds)} ms`;
  }
  if (seconds < kMinuteSeconds - 0.05) {
    return `${seconds.toFixed(1)} s`;
  }
  return formatLongSeconds(Math.round(seconds));
}

function formatLongSeconds(seconds: number): string {
  const two = (value: number) => String(value).padStart(2, "0");
  if (seconds < kHourSeconds) {
    return `${Math.floor(seconds / kMinuteSeconds)} min ${two(seconds % kMinuteSeconds)} s`;
  }
  const minutes = Math.round(seconds / kMinuteSeconds);
  return `${formatCount(Math.floor(minutes / 60))} h ${two(minutes % 60)} min`;
}
