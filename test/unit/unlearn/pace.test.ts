import { describe, expect, it } from "vitest";
import { Pace } from "../../../src/unlearn/masking/pace.js";

describe("the pace of guarded rounds", () => {
  it("begins with the largest step and never exceeds it", () => {
    const pace = new Pace(100);
    expect(pace.next()).toBe(100);
    pace.kept(100, 0);
    expect(pace.next()).toBe(100);
  });

  it("halves after much, grows by half after little, and stays in between", () => {
    const pace = new Pace(1000);
    pace.kept(800, 0.5);
    expect(pace.next()).toBe(400);
    pace.kept(400, 0.3);
    expect(pace.next()).toBe(400);
    pace.kept(400, 0.1);
    expect(pace.next()).toBe(600);
  });

  it("goes on small after an undone round, but not below a step that is worth a round", () => {
    const pace = new Pace(1000);
    pace.undone(800);
    expect(pace.next()).toBe(400);
    pace.undone(3);
    expect(pace.next()).toBe(125);
    pace.kept(125, 0.9);
    expect(pace.next()).toBe(125);
    const small = new Pace(3);
    small.undone(1);
    expect(small.next()).toBe(1);
  });
});
