// A vitest reporter for scripts/test.sh: writes what a script needs to add up, with the reason of each skipped test.
// FISHERMASK_VITEST_TOTALS names the file: {passed, failed, skipped, reasons: ["file > test: reason"]}.
import { writeFileSync } from "node:fs";

function add(totals, test) {
  const { state, note } = test.result();
  if (state === "passed") totals.passed += 1;
  else if (state === "failed") totals.failed += 1;
  else {
    // A test that never finished is not one that somebody chose to skip.
    if (state !== "skipped") totals.failed += 1;
    else totals.skipped += 1;
    const reason = state === "skipped" ? (note ?? "no reason given") : `left ${state}`;
    totals.reasons.push(`${test.module.relativeModuleId} > ${test.fullName}: ${reason}`);
  }
}

export default class TotalsReporter {
  onTestRunEnd(modules, unhandledErrors) {
    // An error outside of any test, such as a file that does not load, counts as one failed test.
    const totals = { passed: 0, failed: unhandledErrors.length, skipped: 0, reasons: [] };
    for (const module of modules) {
      totals.failed += module.errors().length;
      for (const test of module.children.allTests()) add(totals, test);
    }
    const path = process.env.FISHERMASK_VITEST_TOTALS;
    if (path) writeFileSync(path, `${JSON.stringify(totals)}\n`);
  }
}
