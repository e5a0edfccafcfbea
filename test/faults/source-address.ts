/**
 * A process that dials from an address of its own, as every machine does: on loopback the kernel would give all processes 127.0.0.1, and the proxy could not
 * tell who calls. `--import`ed by Node before a node's program, with the address in the environment, it binds that process's outgoing connections.
 */
import { Socket, type TcpNetConnectOpts } from "node:net";
import { pathToFileURL } from "node:url";

/** Environment variable with the address. */
export const SOURCE_ADDRESS = "FAULTS_SOURCE_ADDRESS";
export const SOURCE_PRELOAD = ["--import", pathToFileURL(import.meta.filename).href] as const;

const own = process.env[SOURCE_ADDRESS];
if (own !== undefined) dialFrom(own);

function dialFrom(address: string): void {
  const trueConnect = Socket.prototype.connect as (...given: unknown[]) => Socket;
  // `net.connect` hands its arguments on as one array, options first.
  Socket.prototype.connect = function (this: Socket, ...given: unknown[]): Socket {
    const options = (Array.isArray(given[0]) ? (given[0] as unknown[])[0] : given[0]) as Partial<TcpNetConnectOpts> | undefined;
    if (typeof options?.port === "number") options.localAddress = address;
    return trueConnect.apply(this, given);
  };
}
