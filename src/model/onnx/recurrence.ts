/**
 * What ONNX's RNN, GRU and LSTM share: their operands per direction, known sequence lengths, and the walk over the steps.
 */
import type { NodeContext } from "./context.js";
import type { EngineValue } from "./engine-graph.js";
import { reverseSequencePlaces } from "./fold/places.js";
import type { Maths } from "./maths.js";
import type { Operand } from "./operand.js";

export type Activation = (x: EngineValue) => EngineValue;

/** One direction's operands; rows of `w`, `r` and `bias` are the gates, one after the other. */
export interface Direction {
  readonly reverse: boolean;
  /** (gates·H, I) times the whole input: (T, B, gates·H). */
  readonly projected: EngineValue;
  /** A state (B, H) times (gates·H, H): (B, gates·H). */
  readonly recur: (state: EngineValue) => EngineValue;
  /** The gates' rows of the recurrent matrix alone, times a state: gate i gives (B, H). */
  readonly recurGate: (state: EngineValue, gate: number) => EngineValue;
  /** (gates·H), of the input's side and of the state's; undefined where there is none. */
  readonly bias: readonly [EngineValue, EngineValue] | undefined;
  readonly activations: readonly Activation[];
  /** (1, 3·H): the LSTM's peepholes, in the order i, o, f. */
  readonly peepholes: EngineValue | undefined;
  readonly initialH: EngineValue;
  readonly initialC: EngineValue;
}

export interface Recurrence {
  readonly maths: Maths;
  readonly steps: number;
  readonly batch: number;
  readonly hidden: number;
  readonly directions: readonly Direction[];
  /** Known lengths, where some sequence is shorter than the longest. */
  readonly lengths: readonly number[] | undefined;
  /** Sequences come as (B, T, I) and go as (B, T, directions, H). */
  readonly batchFirst: boolean;
}

const kActivations: Readonly<Record<string, string>> = {
  relu: "relu",
  tanh: "tanh",
  sigmoid: "sigmoid",
  softsign: "softsign",
  softplus: "softplus",
};

function activation(node: NodeContext, maths: Maths, name: string): Activation {
  const op = kActivations[name.toLowerCase()];
  if (op === undefined) return node.refuse(`the activation ${name}`);
  const clip = node.has("clip") ? node.float("clip") : 0;
  return (x) => {
    const bounded = clip > 0 ? maths.unary("clip", x, { min: -clip, max: clip }) : x;
    return maths.unary(op, bounded);
  };
}

/** Which way each direction reads. */
function directionsOf(node: NodeContext): readonly boolean[] {
  const direction = node.string("direction", "forward");
  if (direction === "forward") return [false];
  if (direction === "reverse") return [true];
  return direction === "bidirectional" ? [false, true] : node.refuse(`direction ${direction}`);
}

function lengthsOf(node: NodeContext, batch: number, steps: number): readonly number[] | undefined {
  const operand = node.optional(4);
  if (operand === undefined) return undefined;
  const lengths = node.integers(operand, "sequence lengths");
  if (lengths.length !== batch || lengths.some((length) => length < 0 || length > steps)) {
    node.refuse(`sequence lengths (${lengths.join(", ")})`);
  }
  return lengths.every((length) => length === steps) ? undefined : lengths;
}

/** A parameter of one direction is the slot of a layer; of two it is read and cut. */
function product(
  node: NodeContext,
  maths: Maths,
  weight: Operand,
  d: number,
): (x: EngineValue) => EngineValue {
  const [count = 0, rows = 0, columns = 0] = weight.dims;
  const slot =
    count === 1 && weight.kind === "parameter"
      ? node.tryParameter(weight, "weight", { shape: [rows, columns] })
      : undefined;
  if (slot !== undefined) {
    return (x) =>
      node.emit("linear", [x], x.shape.with(-1, rows), { parameters: { weight: slot } });
  }
  if (weight.kind === "parameter") node.tryParameter(weight, "weight");
  const one = maths.narrow(node.plain(weight), 0, d, 1);
  const matrix = maths.reshape(one, [rows, columns]);
  return (x) => maths.matmul(x, matrix, true);
}

/** One gate's rows of the recurrent matrix. */
function gateProduct(
  node: NodeContext,
  maths: Maths,
  weight: Operand,
  d: number,
  hidden: number,
): (x: EngineValue, gate: number) => EngineValue {
  return (x, gate) => {
    const one = maths.narrow(node.plain(weight), 0, d, 1);
    const rows = maths.narrow(one, 1, gate * hidden, hidden);
    return maths.matmul(x, maths.reshape(rows, [hidden, hidden]), true);
  };
}

function row(
  node: NodeContext,
  maths: Maths,
  operand: Operand | undefined,
  d: number,
): EngineValue | undefined {
  return operand && maths.narrow(node.plain(operand), 0, d, 1);
}

function biases(
  node: NodeContext,
  maths: Maths,
  d: number,
  width: number,
): readonly [EngineValue, EngineValue] | undefined {
  const both = row(node, maths, node.optional(3), d);
  if (both === undefined) return undefined;
  return [maths.narrow(both, 1, 0, width), maths.narrow(both, 1, width, width)];
}

/** (directions, B, H), or (B, directions, H) with the batch first, as (B, H). */
function initial(
  node: NodeContext,
  maths: Maths,
  operand: Operand | undefined,
  d: number,
  shape: readonly [number, number],
  batchFirst: boolean,
): EngineValue {
  if (operand === undefined) return maths.zeros(shape);
  return maths.reshape(maths.narrow(node.plain(operand), batchFirst ? 1 : 0, d, 1), shape);
}

/** (T, B, I), each sequence turned round within its length where the direction reads backwards. */
function ordered(
  maths: Maths,
  x: EngineValue,
  reverse: boolean,
  lengths: readonly number[],
): EngineValue {
  if (!reverse) return x;
  const { dims, places } = reverseSequencePlaces(x.shape, lengths, 0, 1);
  return maths.take(x, dims, places);
}

/**
 * Reads the node. `defaults` are the activations of one direction, `gates` the blocks of rows in its matrices.
 * Refuses what the engine does not do: activations with parameters, unknown lengths, coupled gates.
 */
export function recurrenceOf(
  node: NodeContext,
  maths: Maths,
  gates: number,
  defaults: readonly string[],
): Recurrence {
  const [x, w, r] = [node.input(0), node.input(1), node.input(2)];
  const batchFirst = node.int("layout", 0) !== 0;
  const [first = 0, second = 0] = x.dims;
  const [steps, batch] = batchFirst ? [second, first] : [first, second];
  const reads = directionsOf(node);
  const hidden = r.dims.at(-1) ?? 0;
  const fits = [w, r].every(
    ({ dims }, i) =>
      dims.length === 3 &&
      dims[0] === reads.length &&
      dims[1] === gates * hidden &&
      dims[2] === (i === 0 ? x.dims[2] : hidden),
  );
  if (x.dims.length !== 3 || !fits) node.refuse(`weights of sizes (${w.dims.join(", ")})`);
  if (["activation_alpha", "activation_beta"].some((name) => node.has(name))) {
    node.refuse("activations with parameters");
  }
  const names = node.strings("activations") ?? reads.flatMap(() => defaults);
  if (names.length !== reads.length * defaults.length) node.refuse(`${names.length} activations`);
  const lengths = lengthsOf(node, batch, steps);
  const plain = node.plain(x);
  const sequence = batchFirst ? maths.transpose(plain, [1, 0, 2]) : plain;
  const everyStep = lengths ?? Array.from({ length: batch }, () => steps);
  const directions = reads.map((reverse, d): Direction => {
    const shape = [batch, hidden] as const;
    return {
      reverse,
      projected: product(node, maths, w, d)(ordered(maths, sequence, reverse, everyStep)),
      recur: product(node, maths, r, d),
      recurGate: gateProduct(node, maths, r, d, hidden),
      bias: biases(node, maths, d, gates * hidden),
      activations: names
        .slice(d * defaults.length, (d + 1) * defaults.length)
        .map((name) => activation(node, maths, name)),
      peepholes: row(node, maths, node.optional(7), d),
      initialH: initial(node, maths, node.optional(5), d, shape, batchFirst),
      initialC: initial(node, maths, node.optional(6), d, shape, batchFirst),
    };
  });
  return { maths, steps, batch, hidden, directions, lengths, batchFirst };
}

/** The state after one step: what a cell makes of the input's part and the state before. */
export type Cell = (
  direction: Direction,
  input: EngineValue,
  states: readonly EngineValue[],
) => readonly EngineValue[];

interface Walked {
  /** (T, B, H), in the order of the input. */
  readonly outputs: EngineValue;
  readonly states: readonly EngineValue[];
}

/** 1 for the sequences that are not over at this step, as (B, 1); undefined where none is. */
function running({ maths, lengths, batch }: Recurrence, step: number): EngineValue | undefined {
  if (lengths === undefined || lengths.every((length) => step < length)) return undefined;
  return maths.constant(
    lengths.map((length) => (step < length ? 1 : 0)),
    [batch, 1],
  );
}

function walk(
  recurrence: Recurrence,
  direction: Direction,
  first: readonly EngineValue[],
  cell: Cell,
): Walked {
  const { maths, steps, batch, hidden, lengths } = recurrence;
  let states = first;
  const outputs: EngineValue[] = [];
  for (let step = 0; step < steps; step++) {
    const part = maths.narrow(direction.projected, 0, step, 1);
    const input = maths.reshape(part, [batch, part.shape[2] as number]);
    const next = cell(direction, input, states);
    const mask = running(recurrence, step);
    const before = states;
    states = mask
      ? next.map((state, i) => maths.where(mask, state, before[i] as EngineValue))
      : next;
    const shown = mask
      ? maths.where(mask, states[0] as EngineValue, maths.zeros([batch, hidden]))
      : states[0];
    outputs.push(maths.reshape(shown as EngineValue, [1, batch, hidden]));
  }
  const all = maths.concat(outputs, 0);
  const everyStep = lengths ?? Array.from({ length: batch }, () => steps);
  return { outputs: ordered(maths, all, direction.reverse, everyStep), states };
}

/** The node's outputs: the sequence of the first state, then the last of each state. */
export function run(
  node: NodeContext,
  recurrence: Recurrence,
  stateCount: number,
  cell: Cell,
): readonly Operand[] {
  const { maths, steps, batch, hidden, directions, batchFirst } = recurrence;
  if (steps < 1) node.refuse("a sequence of no step");
  const walked = directions.map((direction) =>
    walk(
      recurrence,
      direction,
      [direction.initialH, direction.initialC].slice(0, stateCount),
      cell,
    ),
  );
  const { dtype } = node.input(0);
  const pieces = walked.map(({ outputs }) => maths.reshape(outputs, [steps, 1, batch, hidden]));
  const all = maths.concat(pieces, 1);
  const y = batchFirst ? maths.transpose(all, [2, 0, 1, 3]) : all;
  const last = Array.from({ length: stateCount }, (_, i) => {
    const rows = walked.map(({ states }) =>
      maths.reshape(states[i] as EngineValue, [1, batch, hidden]),
    );
    const stacked = maths.concat(rows, 0);
    return batchFirst ? maths.transpose(stacked, [1, 0, 2]) : stacked;
  });
  return [y, ...last].map((value) => node.result(value, value.shape, dtype));
}
