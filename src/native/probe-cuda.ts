// Run in a child process by device.ts: loading a broken CUDA driver may end the process. Prints a CudaAvailability.
import { nativeAsync } from "./addon.js";

const { devices, reason } = await nativeAsync((addon) => addon.cudaAvailability());
process.stdout.write(`${JSON.stringify({ devices, reason })}\n`);
