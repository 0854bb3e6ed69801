import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { addonPlace, type DeviceInfo, type NativeDevice, native, nativeAsync } from "./addon.js";
import { FishermaskError } from "./errors.js";

export type { DeviceInfo } from "./addon.js";

/** What matrix products read on a device: f32 as it is, or rounded to 10 (TF32) or 7 (bf16) bits of fraction; sums are f32. */
export type Precision = "f32" | "tf32" | "bf16";
export const PRECISIONS: readonly Precision[] = ["f32", "tf32", "bf16"];

/** Which CUDA devices there are, or why none can be used. */
export interface CudaAvailability {
  readonly devices: readonly DeviceInfo[];
  /** Empty where there are devices. */
  readonly reason: string;
}

/** An opened device: networks made with it live there. One process may open several; each network has one. */
export class EngineDevice {
  readonly info: DeviceInfo;
  readonly precision: Precision;
  /** The ops that it has kernels for. */
  readonly ops: ReadonlySet<string>;
  readonly handle: NativeDevice;

  private constructor(
    handle: NativeDevice,
    info: DeviceInfo,
    ops: readonly string[],
    precision: Precision,
  ) {
    this.handle = handle;
    this.info = info;
    this.ops = new Set(ops);
    this.precision = precision;
  }

  /** `cuda:0` */
  get name(): string {
    return `${this.info.kind}:${this.info.index}`;
  }

  /**
   * Opens CUDA device `index`.
   *
   * @throws {@link FishermaskError} `ERR_FM_NO_DEVICE` with the reason, `ERR_FM_ARGUMENT` (precision)
   */
  static async open(index = 0, precision: Precision = "f32"): Promise<EngineDevice> {
    const { handle, info, ops } = await nativeAsync((addon) =>
      addon.openCudaDevice(index, precision),
    );
    return new EngineDevice(handle, info, ops, precision);
  }
}

const PROBE_MILLISECONDS = 30_000;
let probed: Promise<CudaAvailability> | undefined;

function parseProbe(text: string): CudaAvailability {
  const { devices, reason } = JSON.parse(text) as CudaAvailability;
  return { devices, reason };
}

// Its arguments are those of addonPlace.
const PROBE = `require(process.argv[1])(process.argv[2]).cudaAvailability().then((found) => {
  process.stdout.write(JSON.stringify({ devices: found.devices, reason: found.reason }));
});`;

function runProbe(): Promise<CudaAvailability> {
  const { loader, root } = addonPlace();
  const options = {
    timeout: PROBE_MILLISECONDS,
    encoding: "utf8",
    env: { ...process.env, NODE_OPTIONS: "" },
  } as const;
  return new Promise((resolve) => {
    execFile(process.execPath, ["--eval", PROBE, loader, root], options, (error, stdout) => {
      if (error === null) {
        resolve(parseProbe(stdout));
        return;
      }
      const how = error.signal ?? `code ${error.code}`;
      resolve({
        devices: [],
        reason: `looking for CUDA devices in a child process ended with ${how}`,
      });
    });
  });
}

function probe(): Promise<CudaAvailability> {
  const library = native((addon) => addon.cudaLibrary());
  // A bare name is the loader's to find.
  if (existsSync(library) || !library.includes("/")) return runProbe();
  return Promise.resolve({
    devices: [],
    reason: `the CUDA backend is not installed: there is no ${library}`,
  });
}

/**
 * Which CUDA devices could be opened. Asked once, in a child process, so that a broken driver cannot take this one down with it.
 */
export function cudaAvailability(): Promise<CudaAvailability> {
  probed ??= probe();
  return probed;
}

async function devicesFor(name: string): Promise<readonly DeviceInfo[]> {
  const { devices, reason } = await cudaAvailability();
  if (devices.length > 0) return devices;
  throw new FishermaskError(
    "ERR_FM_NO_DEVICE",
    `Expected a CUDA device for ${name} but found none: ${reason}`,
  );
}

/**
 * The CUDA device of that name, without opening it.
 *
 * @throws {@link FishermaskError} `ERR_FM_ARGUMENT` (name), `ERR_FM_NO_DEVICE` with the reason
 */
export async function requireCuda(name: string): Promise<DeviceInfo> {
  const index = parseDevice(name);
  const devices = await devicesFor(name);
  const found = devices.find((device) => device.index === index);
  if (found !== undefined) return found;
  throw new FishermaskError(
    "ERR_FM_NO_DEVICE",
    `Expected one of ${devices.map((device) => `${device.kind}:${device.index}`).join(", ")} but received ${name}`,
  );
}

/** `cuda:0: NVIDIA H100, 79.1 GiB, compute capability 9.0, matrix products by cuBLASLt 13.1.0, convolutions by own kernels`. */
export function describeDevice(info: DeviceInfo): string {
  const gib = (info.memoryBytes / 2 ** 30).toFixed(1);
  const capability = (info.computeCapability / 10).toFixed(1);
  return `${info.kind}:${info.index}: ${info.name}, ${gib} GiB, compute capability ${capability}, matrix products by ${info.matmulLibrary}, convolutions by ${info.convolutionLibrary}`;
}

/** What `chooseDevice` decided. */
export interface DeviceChoice {
  readonly requested: string;
  /** `cpu` or `cuda:N`. */
  readonly used: string;
  /** One sentence: what is used, and for `auto` why. */
  readonly message: string;
  readonly device: EngineDevice | undefined;
}

export interface DeviceRequest {
  /** `auto`, `cpu`, `cuda` or `cuda:N`. */
  readonly name: string;
  readonly precision?: Precision | undefined;
  /** The ops that the network needs. */
  readonly ops: ReadonlySet<string>;
}

function onCpu(requested: string, why: string): DeviceChoice {
  const message = `device ${requested}: using the CPU${why}`;
  return { requested, used: "cpu", message, device: undefined };
}

function missingOps(device: EngineDevice, ops: ReadonlySet<string>): readonly string[] {
  return [...ops].filter((op) => !device.ops.has(op)).sort();
}

async function chooseAutomatically(request: DeviceRequest): Promise<DeviceChoice> {
  const { devices, reason } = await cudaAvailability();
  const asked = request.precision ?? "f32";
  const rounding = asked === "f32" ? "" : ` in f32, not ${asked}`;
  const [first] = devices;
  if (first === undefined) return onCpu("auto", `${rounding} (${reason})`);
  const device = await EngineDevice.open(first.index, request.precision);
  const missing = missingOps(device, request.ops);
  if (missing.length > 0) {
    return onCpu("auto", `${rounding} (${device.name} has no kernel for ${missing.join(", ")})`);
  }
  const { name, info } = device;
  return {
    requested: "auto",
    used: name,
    message: `device auto: using ${name}, ${info.name}`,
    device,
  };
}

async function chooseCuda(request: DeviceRequest, index: number): Promise<DeviceChoice> {
  await requireCuda(request.name);
  const device = await EngineDevice.open(index, request.precision);
  const missing = missingOps(device, request.ops);
  if (missing.length > 0) {
    throw new FishermaskError(
      "ERR_FM_UNSUPPORTED",
      `Expected ops that ${device.name} has kernels for but the network needs ${missing.join(", ")}; use the device cpu`,
    );
  }
  const { name, info } = device;
  return { requested: request.name, used: name, message: `using ${name}, ${info.name}`, device };
}

/** The index of `cuda` or `cuda:N`; null for `auto` and `cpu`. @throws `ERR_FM_ARGUMENT` for anything else */
export function parseDevice(name: string): number | null {
  if (name === "auto" || name === "cpu") return null;
  const match = /^cuda(?::(\d{1,3}))?$/.exec(name);
  if (match === null) {
    throw new FishermaskError(
      "ERR_FM_ARGUMENT",
      `Expected auto, cpu or cuda:N for --device but received "${name}"`,
    );
  }
  return Number(match[1] ?? 0);
}

/**
 * The device for a network. `auto` takes the first CUDA device that has all the kernels, else the CPU, and says which;
 * `cuda:N` never falls back.
 *
 * @throws {@link FishermaskError} `ERR_FM_ARGUMENT` (name), `ERR_FM_NO_DEVICE`, `ERR_FM_UNSUPPORTED` naming the ops
 */
export async function chooseDevice(request: DeviceRequest): Promise<DeviceChoice> {
  const index = parseDevice(request.name);
  if (index !== null) return chooseCuda(request, index);
  if (request.name === "auto") return chooseAutomatically(request);
  if (request.precision !== undefined && request.precision !== "f32") {
    throw new FishermaskError(
      "ERR_FM_ARGUMENT",
      `Expected precision f32 on the CPU but received ${request.precision}`,
    );
  }
  return onCpu("cpu", "");
}
