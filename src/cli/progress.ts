import { FishermaskError } from "../native/errors.js";
import { formatCount, formatSeconds } from "../report/format.js";
import { cleanText } from "../report/text.js";
import { displayWidth, truncateToWidth } from "./table.js";

const kRedrawMs = 100;
const kPlainIntervalMs = 10_000;
const kBarWidth = 24;
const kDefaultColumns = 80;
// A rate from less than this is noise, and so is the time left that it gives.
const kMinRateSeconds = 0.2;
const kClearLine = "\r\u001B[2K";
const kMaxMessageLength = 2000;

/** What progress writes to: standard error, or a stand-in for it. */
export interface ProgressStream {
  write(text: string): unknown;
  readonly isTTY?: boolean | undefined;
  readonly columns?: number | undefined;
}

export interface ProgressOptions {
  /** Standard error by default; standard output is refused, it belongs to data. */
  readonly stream?: ProgressStream;
  /** Shows no stages and no messages; warnings are shown all the same. */
  readonly quiet?: boolean;
  /** One JSON object a line instead of bars and words: `{"event":"start","stage":…,"done":…,"total":…,"unit":…,"seconds":…}`. */
  readonly json?: boolean;
  /** For `NO_COLOR` and `TERM`; the process's own by default. */
  readonly env?: {
    readonly NO_COLOR?: string | undefined;
    readonly TERM?: string | undefined;
  };
  /** A steady clock in milliseconds. */
  readonly now?: () => number;
}

/** One piece of work that is under way. */
export interface ProgressStage {
  /** Adds `count` to what is done. */
  advance(count?: number): void;
  /** Says how much is done in all, for callers that count for themselves. */
  update(done: number): void;
  /** Ends the stage and leaves its last line standing. A second call does nothing. */
  done(): void;
}

export interface Progress {
  /**
   * Begins a stage.
   * @param total how much there is to do; null when unknown
   * @param unit what is counted, in the plural: "samples"
   */
  stage(name: string, total: number | null, unit: string): ProgressStage;
  /** Writes a line above the bar. */
  message(text: string): void;
  /** As `message`, also when quiet. */
  warning(text: string): void;
  /** Takes the bar off the screen: call it before an error is printed. */
  close(): void;
}

interface StageState {
  readonly name: string;
  readonly total: number | null;
  readonly unit: string;
  readonly startMs: number;
  done: number;
  lastPlainMs: number;
}

interface Pace {
  readonly seconds: number;
  readonly perSecond: number | null;
  readonly secondsLeft: number | null;
}

function paceOf(state: StageState, nowMs: number): Pace {
  const seconds = Math.max(0, (nowMs - state.startMs) / 1000);
  const known = seconds >= kMinRateSeconds && state.done > 0;
  const perSecond = known ? state.done / seconds : null;
  const left = state.total === null ? null : Math.max(0, state.total - state.done);
  return {
    seconds,
    perSecond,
    secondsLeft: perSecond === null || left === null ? null : left / perSecond,
  };
}

function formatRate(perSecond: number, unit: string): string {
  const figure = perSecond >= 100 ? formatCount(perSecond) : perSecond.toPrecision(2);
  return `${Number.isFinite(perSecond) && perSecond >= 0.01 ? figure : perSecond.toExponential(1)} ${unit}/s`;
}

function amount(state: StageState): string {
  const total = state.total === null ? "" : `/${formatCount(state.total)}`;
  return `${formatCount(state.done)}${total} ${state.unit}`;
}

/** Whether there is a number worth showing: an unknown amount of which nothing was counted says nothing. */
function isCounted(state: StageState): boolean {
  return state.total !== null || state.done > 0;
}

function details(state: StageState, pace: Pace): string[] {
  return [
    ...(isCounted(state) ? [amount(state)] : []),
    ...(pace.perSecond === null ? [] : [formatRate(pace.perSecond, state.unit)]),
    ...(pace.secondsLeft === null ? [] : [`${formatSeconds(Math.ceil(pace.secondsLeft))} left`]),
  ];
}

/** How stages and messages are shown; one for each kind of reader. */
interface Display {
  start(state: StageState): void;
  change(state: StageState): void;
  end(state: StageState): void;
  message(text: string, level: "message" | "warning"): void;
  close(): void;
}

type Write = (text: string) => void;
type Clock = () => number;

function plainDisplay(write: Write, now: Clock): Display {
  return {
    start(state) {
      const total = state.total === null ? "" : ` (${formatCount(state.total)} ${state.unit})`;
      write(`${state.name}: started${total}\n`);
    },
    change(state) {
      if (now() - state.lastPlainMs >= kPlainIntervalMs) {
        state.lastPlainMs = now();
        const facts = details(state, paceOf(state, now()));
        write(`${state.name}: ${facts.length === 0 ? "running" : facts.join(", ")}\n`);
      }
    },
    end(state) {
      const { seconds, perSecond } = paceOf(state, now());
      const rate = perSecond === null ? "" : ` (${formatRate(perSecond, state.unit)})`;
      const counted = isCounted(state) ? `${amount(state)} in ` : "";
      write(`${state.name}: ${counted}${formatSeconds(seconds)}${rate}\n`);
    },
    message: (text) => write(`${text}\n`),
    close() {},
  };
}

function jsonDisplay(write: Write, now: Clock): Display {
  const emit = (event: string, state: StageState) => {
    const { name: stage, done, total, unit } = state;
    const { seconds } = paceOf(state, now());
    write(`${JSON.stringify({ event, stage, done, total, unit, seconds })}\n`);
  };
  return {
    start: (state) => emit("start", state),
    change(state) {
      if (now() - state.lastPlainMs >= kPlainIntervalMs) {
        state.lastPlainMs = now();
        emit("progress", state);
      }
    },
    end: (state) => emit("end", state),
    message: (text, level) => write(`${JSON.stringify({ event: level, text })}\n`),
    close() {},
  };
}

interface TerminalOptions {
  readonly colour: boolean;
  readonly columns: () => number;
}

function terminalDisplay(write: Write, now: Clock, { colour, columns }: TerminalOptions): Display {
  const running: StageState[] = [];
  let drawn = false;
  let lastDrawMs = Number.NEGATIVE_INFINITY;

  const paint = (code: number, text: string) => (colour ? `\u001B[${code}m${text}\u001B[0m` : text);

  const clear = () => {
    if (drawn) {
      write(kClearLine);
      drawn = false;
    }
  };

  const bar = (state: StageState): string => {
    if (state.total === null || state.total <= 0) {
      return "";
    }
    const share = Math.min(1, state.done / state.total);
    const filled = Math.round(share * kBarWidth);
    const percent = `${Math.floor(100 * share)} %`.padStart(5);
    return `  ${paint(36, "━".repeat(filled))}${paint(90, "─".repeat(kBarWidth - filled))} ${percent}`;
  };

  const draw = (state: StageState) => {
    lastDrawMs = now();
    const middle = bar(state);
    const middleWidth = middle === "" ? 0 : kBarWidth + 8;
    const tail = `  ${details(state, paceOf(state, now())).join("  ")}`;
    // One cell stays free: a full line wraps, and a wrapped line cannot be cleared.
    const width = columns() - 1;
    const name = truncateToWidth(state.name, Math.max(8, width - middleWidth - displayWidth(tail)));
    const fits = displayWidth(name) + middleWidth + displayWidth(tail) <= width;
    const line = fits ? name + middle + tail : truncateToWidth(state.name + tail, width);
    write(`${drawn ? kClearLine : ""}${line}`);
    drawn = true;
  };

  const drawLast = () => {
    const last = running.at(-1);
    if (last !== undefined) {
      draw(last);
    }
  };

  return {
    start(state) {
      running.push(state);
      draw(state);
    },
    change(state) {
      if (state === running.at(-1) && now() - lastDrawMs >= kRedrawMs) {
        draw(state);
      }
    },
    end(state) {
      running.splice(running.indexOf(state), 1);
      clear();
      const { seconds, perSecond } = paceOf(state, now());
      const rate = perSecond === null ? [] : [formatRate(perSecond, state.unit)];
      const counted = isCounted(state) ? [amount(state)] : [];
      const facts = [...counted, formatSeconds(seconds), ...rate].join("  ");
      write(`${paint(32, "✓")} ${state.name}  ${paint(90, facts)}\n`);
      drawLast();
    },
    message(text) {
      clear();
      write(`${text}\n`);
      drawLast();
    },
    close() {
      running.length = 0;
      clear();
    },
  };
}

function createDisplay(options: ProgressOptions, stream: ProgressStream, now: Clock): Display {
  const env: NonNullable<ProgressOptions["env"]> = options.env ?? process.env;
  const write: Write = (text) => {
    stream.write(text);
  };
  if (options.json === true) {
    return jsonDisplay(write, now);
  }
  if (stream.isTTY !== true || env.TERM === "dumb") {
    return plainDisplay(write, now);
  }
  // An empty NO_COLOR counts as unset: no-color.org.
  const colour = (env.NO_COLOR ?? "") === "";
  return terminalDisplay(write, now, { colour, columns: () => stream.columns || kDefaultColumns });
}

function stageHandle(state: StageState, display: Display): ProgressStage {
  let open = true;
  const update = (done: number) => {
    if (open) {
      state.done = done;
      display.change(state);
    }
  };
  return {
    advance: (count = 1) => update(state.done + count),
    update,
    done() {
      if (open) {
        open = false;
        display.end(state);
      }
    },
  };
}

const kSilentStage: ProgressStage = { advance() {}, update() {}, done() {} };

/**
 * Progress of long work, on standard error: a bar with rate and time left, redrawn at most ten times a second, on a terminal; one
 * line at the start and the end of a stage, and one every ten seconds at most, elsewhere. It sets no timer and so keeps no process
 * alive.
 *
 * @throws {@link FishermaskError} ERR_FM_ARGUMENT when the stream is standard output
 * @example
 * const progress = createProgress({ quiet: false });
 * const stage = progress.stage("Fisher, forget set", 5000, "samples");
 * stage.advance(128);
 * stage.done();
 */
export function createProgress(options: ProgressOptions = {}): Progress {
  const stream: ProgressStream = options.stream ?? process.stderr;
  if (stream === process.stdout) {
    throw new FishermaskError(
      "ERR_FM_ARGUMENT",
      "Expected a stream other than standard output for stream but received process.stdout",
    );
  }
  const now = options.now ?? (() => performance.now());
  const quiet = options.quiet === true;
  const display = createDisplay(options, stream, now);
  return {
    stage(name, total, unit) {
      if (quiet) {
        return kSilentStage;
      }
      const startMs = now();
      const state = {
        name: cleanText(name),
        total,
        unit: cleanText(unit),
        startMs,
        done: 0,
        lastPlainMs: startMs,
      };
      display.start(state);
      return stageHandle(state, display);
    },
    message(text) {
      if (!quiet) {
        display.message(cleanText(text, kMaxMessageLength), "message");
      }
    },
    warning: (text) => display.message(cleanText(text, kMaxMessageLength), "warning"),
    close: () => display.close(),
  };
}
