import type { Command } from "commander";
import { addon } from "../../native/addon.js";
import { cudaAvailability, describeDevice } from "../../native/device.js";
import { environment } from "../../unlearn/run-directory.js";
import { addCommon, type CommonOptions } from "../options.js";
import { Session } from "../session.js";

async function run(options: CommonOptions): Promise<void> {
  const session = new Session({ ...options, quiet: true });
  const { devices, reason } = await cudaAvailability();
  const facts = {
    ...environment(),
    ops: addon().ops(),
    cuda: devices.length > 0 ? devices.map(describeDevice) : `no device: ${reason}`,
  };
  const lines = Object.entries(facts).map(
    ([key, value]) =>
      `${key.padEnd(16)} ${Array.isArray(value) ? value.join(", ") : String(value)}`,
  );
  session.finish({ schemaVersion: 1, ...facts }, lines.join("\n"));
}

export function register(program: Command): void {
  addCommon(
    program.command("doctor").description("say what this machine and this build can do"),
  ).action(run);
}
