import type { Importers, NodeContext } from "../context.js";
import type { EngineValue } from "../engine-graph.js";
import { Maths } from "../maths.js";
import { namedImporters } from "../naming.js";
import { isFloat, type Operand } from "../operand.js";
import { type Activation, type Cell, recurrenceOf, run } from "../recurrence.js";

function mathsOf(node: NodeContext): Maths {
  const { dtype } = node.input(0);
  if (!isFloat(dtype)) node.refuse(`an operand of type ${dtype}`);
  return new Maths(node, dtype);
}

function act(activations: readonly Activation[], i: number, x: EngineValue): EngineValue {
  return (activations[i] as Activation)(x);
}

/** H' = f(X·Wᵀ + H·Rᵀ + Wb + Rb). */
function rnn(node: NodeContext): readonly Operand[] {
  const maths = mathsOf(node);
  const recurrence = recurrenceOf(node, maths, 1, ["Tanh"]);
  const cell: Cell = ({ recur, bias, activations }, input, [h]) => {
    const sum = maths.add(input, recur(h as EngineValue));
    const biased = bias ? maths.add(sum, maths.add(bias[0], bias[1])) : sum;
    return [act(activations, 0, biased)];
  };
  return run(node, recurrence, 1, cell);
}

/** Gates z, r, h: H' = (1 − z)∘h + z∘H. */
function gru(node: NodeContext): readonly Operand[] {
  const maths = mathsOf(node);
  const recurrence = recurrenceOf(node, maths, 3, ["Sigmoid", "Tanh"]);
  const linear = node.int("linear_before_reset", 0) !== 0;
  const n = recurrence.hidden;
  const cell: Cell = (direction, input, [state]) => {
    const h = state as EngineValue;
    const { bias, activations, recurGate } = direction;
    const gate = (i: number): EngineValue => {
      const own = maths.narrow(input, 1, i * n, n);
      return bias ? maths.add(own, maths.narrow(bias[0], 1, i * n, n)) : own;
    };
    const recurrent = (x: EngineValue, i: number): EngineValue => {
      const product = recurGate(x, i);
      return bias ? maths.add(product, maths.narrow(bias[1], 1, i * n, n)) : product;
    };
    const z = act(activations, 0, maths.add(gate(0), recurrent(h, 0)));
    const r = act(activations, 0, maths.add(gate(1), recurrent(h, 1)));
    const reset = linear ? maths.mul(r, recurrent(h, 2)) : recurrent(maths.mul(r, h), 2);
    const candidate = act(activations, 1, maths.add(gate(2), reset));
    const kept = maths.mul(z, h);
    return [maths.add(maths.mul(maths.affine(z, -1, 1), candidate), kept)];
  };
  return run(node, recurrence, 1, cell);
}

/** Gates i, o, f, c: C' = f∘C + i∘c, H' = o∘h(C'); the peepholes let the gates see the cell. */
function lstm(node: NodeContext): readonly Operand[] {
  const maths = mathsOf(node);
  if (node.int("input_forget", 0) !== 0) node.refuse("coupled input and forget gates");
  if (node.has("clip")) node.refuse("a clip, which implementations apply in different places");
  const recurrence = recurrenceOf(node, maths, 4, ["Sigmoid", "Tanh", "Tanh"]);
  const n = recurrence.hidden;
  const cell: Cell = ({ recur, bias, activations, peepholes }, input, [h, c]) => {
    const sum = maths.add(input, recur(h as EngineValue));
    const gates = bias ? maths.add(sum, maths.add(bias[0], bias[1])) : sum;
    const gate = (i: number): EngineValue => maths.narrow(gates, 1, i * n, n);
    const seen = (i: number, x: EngineValue, state: EngineValue): EngineValue =>
      peepholes ? maths.add(x, maths.mul(state, maths.narrow(peepholes, 1, i * n, n))) : x;
    const before = c as EngineValue;
    const entry = act(activations, 0, seen(0, gate(0), before));
    const forget = act(activations, 0, seen(2, gate(2), before));
    const candidate = act(activations, 1, gate(3));
    const after = maths.add(maths.mul(forget, before), maths.mul(entry, candidate));
    const output = act(activations, 0, seen(1, gate(1), after));
    return [maths.mul(output, act(activations, 2, after)), after];
  };
  return run(node, recurrence, 2, cell);
}

/** Recurrent operators, unrolled over their steps. */
export const importers: Importers = namedImporters({ RNN: rnn, GRU: gru, LSTM: lstm });
